"""Runs stages, each in a process of its own that ends in time: what fails or hangs takes nothing else with it."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from .keeping import BROKEN, Keeper, now
from .stages import Stage
from .tuning import use_found

_GRACE = 8.0  # seconds beyond a stage's share in which it may end the piece that it is at
_ATTEMPTS = 3  # processes for a stage whose GPU was left unusable by a piece


def run_stages(stages: tuple[Stage, ...], out: Path, data: Path, seconds: float, rehearsal: bool) -> int:
    """Each stage in its turn, within so many seconds. Returns how many pieces failed, or how many stages did without saying which."""
    out.mkdir(parents=True, exist_ok=True)
    since, end = now(), perf_counter() + seconds
    statuses = {}
    for place, stage in enumerate(stages):
        left = end - perf_counter()
        share = left * stage.share / sum(each.share for each in stages[place:])
        for _ in range(_ATTEMPTS):
            status = _in_process(
                stage, out, data, share, min(_GRACE, max(end - perf_counter() - share, 0)), since, rehearsal
            )
            statuses[stage.name] = status
            share = min(share, end - perf_counter())
            if status != BROKEN or share <= 0:
                break
    return _summarise(stages, out, since, rehearsal) or sum(status != 0 for status in statuses.values())


def _in_process(
    stage: Stage, out: Path, data: Path, seconds: float, grace: float, since: str, rehearsal: bool
) -> int | None:
    """Runs a stage; kills it after its time. Returns its exit status."""
    print(f"\n== {stage.name}: {seconds:.0f} s", flush=True)
    began = perf_counter()
    log = out / "first-gpu.log"
    start = log.stat().st_size if log.exists() else 0
    child = multiprocessing.get_context("fork").Process(
        target=_work, args=(stage, out, data, seconds, since, rehearsal, log)
    )
    child.start()
    child.join(seconds + grace)
    late = child.is_alive()
    if late:
        os.killpg(child.pid or 0, signal.SIGKILL)
        child.join()
    text = log.read_bytes()[start:].decode(errors="replace") if log.exists() else ""
    print(text, flush=True)
    if child.exitcode not in (0, BROKEN):
        what = f"ended after {perf_counter() - began:.0f} s, its time" if late else f"exit status {child.exitcode}"
        message = f"{what}; the last it said: {text[-1500:]}"
        _apart(
            Keeper(out, stage.name, seconds, since, rehearsal).fail, "the stage itself", message, perf_counter() - began
        )
    return child.exitcode


def _apart(work: Callable[..., object], *values: object) -> None:
    """In a process of its own: a process that asked for the GPU's name could start no other that uses the GPU."""
    process = multiprocessing.get_context("fork").Process(target=work, args=values)
    process.start()
    process.join()


def _work(stage: Stage, out: Path, data: Path, seconds: float, since: str, rehearsal: bool, log: Path) -> None:
    os.setsid()  # so that what it starts ends with it
    sys.stdout = sys.stderr = file = log.open("a", buffering=1)  # to the end of the process
    for number in (1, 2):
        os.dup2(file.fileno(), number)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # tf32
    keeper = Keeper(out, stage.name, seconds, since, rehearsal)
    if stage.tiles:
        use_found(keeper)
    stage.run(keeper, data)


def _summarise(stages: tuple[Stage, ...], out: Path, since: str, rehearsal: bool) -> int:
    """A line a stage."""
    print("\n| stage | done | failed |\n| --- | ---: | ---: |")
    failures = 0
    for stage in stages:
        keeper = Keeper(out, stage.name, 0, since, rehearsal)
        done, failed = keeper.counts()
        failures += failed
        print(f"| {stage.name} | {done} | {failed} |")
    return failures
