"""Does a sweep that is killed at a random moment and resumed end with the records and weights of one that is left alone?

    python benchmarks/trust/kills.py [--kills 100] [--seed 0] [--out hannet-results/benchmarks]

The sweep is `hannet reproduce figure1 --quick`, shortened: real nets, records and weights. Each time it starts on an empty store,
gets SIGKILL at a random moment of its life, is resumed to its end, and its store is compared with an undisturbed one's, in
everything but seconds and dates. Of ten times five are of one process, three of two side by side on one store, one of which
is killed and the other must end well, and two of a sweep with two jobs, of which the sweep or a worker is killed. About
seven minutes on two cores.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch

from hannet.experiments import store as runs
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board
from hannet.experiments.record import Record, Run
from hannet.experiments.runner import run_sweep

ITERATIONS = 100  # of each net
TEN = ["one process"] * 5 + ["one of two side by side"] * 3 + ["a sweep of two jobs", "a worker of two"]
SPAWNED = 6.0  # seconds that two jobs live, most of it imports
FORK = multiprocessing.get_context("fork")


def main() -> None:
    """Kill, resume, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _board.QUICK_ITERATIONS = ITERATIONS
    began, chance = time.perf_counter(), random.Random(arguments.seed)  # noqa: S311
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        expected, seconds = undisturbed(Path(folder, "undisturbed"))
        print(f"undisturbed: {seconds:.1f} s, {len(expected)} records and weights", flush=True)
        for number in range(arguments.kills):
            victim, store = TEN[number % len(TEN)], Path(folder, str(number))
            kept, right = trial(victim, store, chance, seconds, expected)
            counts += Counter({f"kills: {victim}": 1, "identical in the end": right, "had nothing yet": kept == 0})
            print(f"{number + 1:>4} {victim:<24} {kept:>3} kept, {'identical' if right else 'DIFFERENT'}", flush=True)
    run = Run("benchmark kills", {"kills": arguments.kills, "iterations": ITERATIONS}, arguments.seed)
    metrics = {name: float(count) for name, count in counts.items()}
    runs.Store(arguments.out).append([Record.of(run, metrics, time.perf_counter() - began)])
    print(f"{counts['identical in the end']} of {arguments.kills} identical")
    sys.exit(counts["identical in the end"] != arguments.kills)


def sweep(store: Path, jobs: int) -> None:
    """What `hannet reproduce figure1 --quick` computes, into a store."""
    run_sweep(load_experiment("figure1", [0], quick=True), runs.Store(store), lambda _: None, jobs)


def start(store: Path, jobs: int = 1) -> BaseProcess:
    """The sweep as a process."""
    process = FORK.Process(target=sweep, args=(store, jobs))
    process.start()
    return process


def undisturbed(store: Path) -> tuple[dict[str, Any], float]:
    """What the sweep should give, and the seconds that it takes once the kernels are compiled."""
    for folder in (store.with_name("warm"), store):
        began = time.perf_counter()
        process = start(folder)
        process.join()
        assert process.exitcode == 0
    return contents(store), time.perf_counter() - began


def trial(
    victim: str, store: Path, chance: random.Random, seconds: float, expected: dict[str, Any]
) -> tuple[int, bool]:
    """Kill the victim once and resume: how much was kept by then, and whether all was right in the end."""
    jobs = 2 if victim in TEN[8:] else 1
    first = start(store, jobs)
    others = [start(store)] if victim == "one of two side by side" else []
    time.sleep(chance.uniform(0, SPAWNED if jobs > 1 else seconds * (1 + len(others) / 2)))
    helpers = psutil.Process(first.pid).children(recursive=True) if first.is_alive() else []
    workers = [helper for helper in helpers if works(helper)]
    if victim == "a worker of two" and workers:
        kill(chance.choice(workers))  # the sweep replaces it and ends well
        others.append(first)
    else:
        first.kill()
        first.join()
    kept = len(contents(store))
    _, orphans = psutil.wait_procs(helpers, timeout=60)
    for process in others:
        process.join()
    resumed = start(store)
    resumed.join()
    codes = [process.exitcode for process in (*others, resumed)]
    return kept, not orphans and not any(codes) and contents(store) == expected


def works(process: psutil.Process) -> bool:
    """Whether it is a worker, not the tracker that multiprocessing starts beside it."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it is still there."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def contents(store: Path) -> dict[str, Any]:
    """Records and their weights by name, without what may differ."""
    if not store.is_dir():
        return {}
    records = {
        key: {name: value for name, value in asdict(record).items() if name not in ("seconds", "when")}
        for key, record in runs.Store(store).records().items()
    }
    weights = {path.name: path.read_bytes() for path in store.glob("models/[!.]*") if path.stem in records}
    return records | weights


if __name__ == "__main__":
    main()
