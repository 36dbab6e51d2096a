"""Kills of a Dask worker and of the scheduler while a sweep computes on them."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import distributed
import workload
from command_kills import Hit, Sweep
from workload import command, start

WORDS = (*workload.SWEEP, "--cluster")
GONE = tuple(f"hannet: {what}" for what in ("the Dask scheduler at", "the cluster at", "no Dask scheduler answers"))


class Cluster(Sweep):
    """A sweep on a scheduler with two workers: in turn a worker is killed, after which it goes on, or the scheduler."""

    def _prepare(self) -> None:
        super()._prepare()  # what a sweep without a cluster gives
        self.file = workload.beside(self.folder, "scheduler.json")
        self.clear()
        with self.nodes() as _:
            began = time.perf_counter()
            self.require_success(self.sweep())
            self.seconds = time.perf_counter() - began
        assert self.contents().keys() == self.expected.keys()

    @contextmanager
    def nodes(self) -> Iterator[list[BaseProcess]]:
        """A scheduler, and two workers."""
        self.file.unlink(missing_ok=True)
        nodes = [start(_node, self.folder, "scheduler", self.file)]
        while not self.file.exists():
            time.sleep(0.01)
        nodes += [start(_node, self.folder, "worker", self.file) for _ in range(2)]
        try:
            yield nodes
        finally:
            for node in nodes:
                node.kill()
                node.join()

    def sweep(self) -> int:
        """The sweep, run to its end: the exit code."""
        process = command(self.folder, *WORDS, str(self.file))
        process.join()
        return process.exitcode or 0

    def _trial(self, number: int) -> Hit | None:
        kind = "the scheduler" if number % 2 else "a worker"
        with self.nodes() as nodes:
            process = command(self.folder, *WORDS, str(self.file))
            time.sleep(self.chance.uniform(0, self.seconds))
            assert nodes[number % 2 - 1].pid
            stage = workload.kill(nodes[number % 2 - 1].pid or 0, self.folder) if process.is_alive() else None
            process.join(timeout=120)
            code = process.exitcode
        if code is None or not stage:
            return Hit(kind, stage, right=False) if stage else None
        told = workload.beside(self.folder, "log").read_text().splitlines()[-1]
        if kind == "a worker":
            return Hit(kind, stage, code == 0 and self.contents() == self.expected and self._tidy())
        well = code == 0 or (code == 1 and told.startswith(GONE))
        with self.nodes():
            return Hit(kind, stage, well and self.sweep() == 0 and self.contents() == self.expected and self._tidy())


def _node(kind: str, file: Path) -> None:
    """The life of a scheduler or of a worker."""
    logging.disable(logging.CRITICAL)
    scratch = str(workload.beside(file, "scratch"))

    async def live() -> None:
        if kind == "scheduler":
            node = distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False, scheduler_file=str(file))
        else:
            node = distributed.Worker(scheduler_file=str(file), nthreads=1, local_directory=scratch, dashboard=False)
        async with node:
            await node.finished()

    asyncio.run(live())
