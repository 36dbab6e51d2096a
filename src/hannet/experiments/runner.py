"""Sweeps: what a store lacks of an experiment is computed, here, in processes or on a cluster, and kept group by group.

A sweep may be killed at any moment, be started again, and run beside others on the same store: each run is computed once.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait

import torch

from ..reporting.progress import OnProgress, ProgressEvent
from .base import Experiment
from .record import Run
from .store import Store
from .work_queue import FATAL, MAX_DEATHS, SweepError, WorkQueue, attempt

ALL = (1, 1)
CONTEXT = multiprocessing.get_context("spawn")  # not "fork", after which a process computes on one thread only
LOOK_EVERY = 0.2  # seconds, where there may be something to do that nobody tells


def run_sweep(
    experiment: Experiment,
    store: Store,
    on_progress: OnProgress,
    jobs: int = 1,
    *,
    on_failure: Callable[[str], None] | None = None,
    shard: tuple[int, int] = ALL,
    cluster: str | None = None,
) -> int:
    """Compute what the store lacks, `jobs` groups at a time, and keep each group as it ends. Returns how many runs that were.

    Several jobs are processes, each on its share of the threads: for small networks that is faster than threads inside.
    shard: (i, n), the i-th of n parts alone. cluster: where a Dask scheduler is, to compute there instead. Raises SweepError
    at the end if a group failed, and StoreError, DataError or ModuleNotFoundError at once.
    """
    queue = WorkQueue(_pending(experiment, store, shard), experiment.cost, on_progress, on_failure)
    jobs = min(jobs, len(queue.groups))
    if cluster and jobs:
        from .dask_runner import run_on_cluster

        run_on_cluster(queue, experiment, store, cluster)
    elif jobs > 1:
        _in_processes(queue, experiment, store, jobs)
    else:
        _in_this_process(queue, experiment, store)
    store.tidy()
    queue.close(store)
    return queue.new


def shard_of(groups: Sequence[list[Run]], cost: Callable[[Run], float], shard: tuple[int, int]) -> list[list[Run]]:
    """The groups of the i-th of n shards of about equal cost: each group, the longest first, goes where least is."""
    mine, number = shard
    loads = [0.0] * number
    chosen = []
    for group in sorted(groups, key=lambda group: -sum(map(cost, group))):
        place = loads.index(min(loads))
        loads[place] += sum(map(cost, group))
        if place == mine - 1:
            chosen.append(group)
    return chosen


def _pending(experiment: Experiment, store: Store, shard: tuple[int, int]) -> list[list[Run]]:
    """What is missing of a shard's groups, each run in the first group that has it; empty groups left out."""
    runs = {run.key: run for group in experiment.groups() for run in group}
    missing = {run.key for run in store.missing(runs.values(), models=experiment.needs_weights)}
    groups = [[run for run in group if runs.pop(run.key, None)] for group in experiment.groups()]
    chosen = shard_of([group for group in groups if group], experiment.cost, shard)
    pending = [[run for run in group if run.key in missing] for group in chosen]
    return [group for group in pending if group]


def _in_this_process(queue: WorkQueue, experiment: Experiment, store: Store) -> None:
    while queue.open:
        if work := queue.take():
            number, group = work
            queue.mark_done(number, attempt(experiment, store, group, partial(queue.report, number)))
        else:
            time.sleep(LOOK_EVERY)


def _in_processes(queue: WorkQueue, experiment: Experiment, store: Store, jobs: int) -> None:
    threads = max(1, torch.get_num_threads() // jobs)
    workers: list[_Worker] = []
    failed_starts = 0
    try:
        while queue.open:
            _start_workers(workers, jobs, experiment, store, threads)
            for worker in workers:
                if worker.idle and (work := queue.take()):
                    worker.give(*work)
            readable = wait([worker.link for worker in workers], timeout=LOOK_EVERY)
            for worker in [worker for worker in workers if worker.link in readable]:
                if not worker.listen(queue):
                    workers.remove(worker)
                    failed_starts += not worker.started
            if failed_starts > MAX_DEATHS * jobs:
                raise SweepError("its processes end before they can begin; --jobs 1 does without them")
    finally:
        for worker in workers:
            worker.stop()


def _start_workers(workers: "list[_Worker]", jobs: int, experiment: Experiment, store: Store, threads: int) -> None:
    try:
        while len(workers) < jobs:
            workers.append(_Worker(experiment, store, threads))
    except OSError as error:
        raise SweepError(
            f"no more than {len(workers)} of {jobs} processes can be started ({error.strerror})"
        ) from error


class _Worker:
    """A process that attempts one group after the other. It holds the claims on its groups itself: they die with it."""

    def __init__(self, experiment: Experiment, store: Store, threads: int):
        self.link, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, experiment, store, threads))
        with _ignore_interrupts():  # and so is the process, which inherits it: Ctrl-C is answered here
            self.process.start()
        theirs.close()
        self.started = False
        self.number: int | None = None  # of the group it is at

    @property
    def idle(self) -> bool:
        """Whether it waits for a group."""
        return self.started and self.number is None

    def give(self, number: int, group: list[Run]) -> None:
        """Let it attempt a group."""
        self.number = number
        with suppress(BrokenPipeError):  # then it just died, which `listen` will find
            self.link.send(group)

    def listen(self, queue: WorkQueue) -> bool:
        """Pass on what it has to say; False if it died. Raises what ends the sweep."""
        try:
            message = self.link.recv()
        except (EOFError, OSError):
            self.stop()
            if self.number is not None:
                queue.died(self.number, f"exit code {self.process.exitcode}")
            return False
        if isinstance(message, BaseException):
            raise message
        if self.number is None:
            self.started = True
        elif isinstance(message, ProgressEvent):
            queue.report(self.number, message)
        else:
            queue.mark_done(self.number, message)
            self.number = None
        return True

    def stop(self) -> None:
        """End it here and now."""
        self.process.kill()
        self.process.join()
        self.link.close()


def _serve(link: Connection, experiment: Experiment, store: Store, threads: int) -> None:
    """The life of a worker process."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with suppress(EOFError, BrokenPipeError):  # the parent is gone, and so will this process be in a moment
        link.send(None)
        while True:
            group = link.recv()
            try:
                link.send(attempt(experiment, store, group, link.send))
            except FATAL as error:
                link.send(error)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
