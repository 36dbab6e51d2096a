"""Do commands stand a clock that goes backwards, a home that can't be written, a file system without locks, and each other?

    python benchmarks/trust/surroundings.py [--only fit,reproduce,...] [--quick] [--out hannet-results/trust]

Each of fit, train, reproduce, export and predict runs in each of these, and two of it at once in one folder. It must succeed with
the right result, or end with one sentence and leave what was there; of two at once one must succeed. With a home that can't be
written each runs as a process of its own, started as a user starts it. Prints a line a trial; appends a record; exits with 1 if
there was a fault. Two minutes.
"""

import argparse
import errno
import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

import workload
from attempts import COMMANDS, Attempt, Trials, prepare


def main() -> None:
    """Try, look, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(COMMANDS), help="commands, separated by commas")
    parser.add_argument("--quick", action="store_true", help="two commands, and no processes of their own")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/trust"), help="folder of the record")
    arguments = parser.parse_args()
    kinds = dict(KINDS)
    if arguments.quick:
        arguments.only = "fit,reproduce"
        del kinds["read-only home"]
    began, counts = time.perf_counter(), Counter[str](trials=0, faults=0)
    workload.warm_up()
    with tempfile.TemporaryDirectory(prefix="hannet-surroundings-") as name, workload.no_process_left():
        prepare(Path(name))
        for command in arguments.only.split(","):
            trials = Trials(command, Path(name))
            for kind, attempt_in in kinds.items():
                attempt = attempt_in(trials)
                fault = attempt.fault or (trials.again(trials.folder) if attempt.code else "")
                counts.update({"trials": 1, "faults": bool(fault), f"sentences: {kind}": attempt.code != 0})
                told = fault or ("a sentence" if attempt.code else "success")
                print(f"{time.perf_counter() - began:6.0f} s  {command:<16}{kind:<18}{told}", flush=True)
    metrics = {key: float(count) for key, count in counts.items()}
    workload.save_record(arguments.out, "surroundings", {"only": arguments.only}, 0, metrics, began)
    print(f"{counts['trials']} trials, {counts['faults']} faults")
    sys.exit(counts["faults"] > 0)


def _clock(trials: Trials) -> Attempt:
    """Every look at the clock shows an hour earlier."""

    def turn_back() -> None:
        began, looks = time.time(), itertools.count()
        time.time = lambda: began - 3600.0 * next(looks)
        time.time_ns = lambda: int(1e9 * time.time())

    folder = trials.fresh()
    for path in folder.rglob("*"):
        os.utime(path, (2**32, 2**32))  # and all files are from the future
    return trials.judge(folder, trials.start(folder, turn_back), {})


def _locks(trials: Trials) -> Attempt:
    """The file system knows no locks."""

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def take_locks_away() -> None:
        fcntl.flock = fcntl.lockf = refuse

    folder = trials.fresh()
    return trials.judge(folder, trials.start(folder, take_locks_away), {})


def _home(trials: Trials) -> Attempt:
    """Nothing can be written at home, nor where caches go."""
    folder, nowhere = trials.fresh(), "/proc/nowhere"
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HF_HOME")
    limits = f"import hannet.experiments.paper._board as b; b.QUICK_ITERATIONS = {workload.ITERATIONS}; "
    code = f"{limits}from hannet.__main__ import main; main()"
    command = [sys.executable, "-c", code, *trials.words]
    environment = os.environ | dict.fromkeys(names, nowhere) | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if "Traceback" in done.stderr or (done.returncode and "hannet: " not in done.stderr):
        return Attempt(done.returncode, f"no sentence: {done.stderr.strip().splitlines()[-1:]}")
    return Attempt(done.returncode, "" if done.returncode else trials.differences(trials.read(folder)))


def _two(trials: Trials) -> Attempt:
    """Two at once in one folder: one succeeds, and the other too, or it says why not."""
    folder = trials.fresh()
    both = [trials.start(folder, lambda: None) for _ in range(2)]
    for running in both:
        running.process.join(timeout=300)
    ended = [trials.judge(folder, running, {}) for running in both]
    fault = next((attempt.fault for attempt in ended if attempt.fault), "")
    if not fault and all(attempt.code for attempt in ended):
        fault = "neither succeeds"
    return Attempt(0, fault)


KINDS = {"clock backwards": _clock, "no locks": _locks, "read-only home": _home, "two at once": _two}


if __name__ == "__main__":
    main()
