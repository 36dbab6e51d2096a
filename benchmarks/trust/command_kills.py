"""Kinds of kills: of a sweep, of an image training, of `hannet fit`, and of `hannet fit` while it writes its folder."""

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import workload
from workload import Snapshot, command, finish, start

from hannet.tabular.model import Model


@dataclass(frozen=True)
class Hit:
    """A kill. victim: what was killed; stage: where in the code it was; right: whether all was as it should be in the end."""

    victim: str
    stage: str
    right: bool


class Kind:
    """A command, killed and run again in a folder, which holds what `workload.write_inputs` wrote.

    words: of the command; out: what it writes.
    """

    words: tuple[str, ...]
    out: str

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance = folder, chance
        workload.write_inputs(folder)
        self.inputs = self._names()

    def hits(self, kills: int) -> Iterator[Hit]:
        """So many kills; a command that ended before its kill does not count."""
        self._prepare()
        found = 0
        while found < kills:
            self.clear()
            if hit := self._trial(found):
                found += 1
                yield hit

    def _prepare(self) -> None:
        """Find out what to expect, and how long it takes."""
        for _ in range(2):
            self.clear()
            began = time.perf_counter()
            self.require_success(finish(self.folder, *self.words))
            self.seconds = time.perf_counter() - began
        self.expected = self.contents()

    def require_success(self, code: int) -> None:
        """Stop here if even the undisturbed command fails."""
        if code:
            raise SystemExit(f"undisturbed: exit code {code}\n{workload.beside(self.folder, 'log').read_text()}")

    def clear(self) -> None:
        """Remove what the trial before left."""
        for name in self._names() - self.inputs:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _trial(self, _: int) -> Hit | None:
        """Kill, look, run again, compare; None if the command ended first."""
        process = command(self.folder, *self.words)
        stage = self.kill_within(self.seconds, process)
        return stage and Hit(self.words[0], stage, self.resumes())

    def kill_within(self, seconds: float, process: BaseProcess) -> str | None:
        """Kill it at a random moment: where it was, or None if it had ended."""
        time.sleep(self.chance.uniform(0, seconds))
        assert process.pid
        stage = workload.kill(process.pid, self.folder)
        process.join()
        return (stage or "start") if process.exitcode == -signal.SIGKILL else None

    def resumes(self) -> bool:
        """Whether the same command ends well, with what is expected and nothing beside it."""
        return finish(self.folder, *self.words) == 0 and self.contents() == self.expected and self._tidy()

    def _tidy(self) -> bool:
        """Whether nothing is left of the process that was killed."""
        return self._names() == self.inputs | {self.out}

    def _names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def contents(self) -> Snapshot:
        """What the command wrote, without what differs from run to run."""
        return workload.snapshot(self.folder / self.out)


class Images(Kind):
    """An image training, in turn of each of the two training backends."""

    out = "net"

    def _prepare(self) -> None:
        self.all: list[tuple[tuple[str, ...], Snapshot, float]] = []
        for words in (workload.ENSEMBLE, workload.MIXER):
            self.words = words
            super()._prepare()
            self.all.append((words, self.expected, self.seconds))

    def _trial(self, number: int) -> Hit | None:
        self.words, self.expected, self.seconds = self.all[number % 2]
        hit = super()._trial(number)
        return hit and Hit("han-mixer" if number % 2 else "hannet", hit.stage, hit.right)


class Fit(Kind):
    """A fit, half of the times over an older model, which must be there until the new one is."""

    words = workload.FIT
    out = "model"

    def _prepare(self) -> None:
        self.require_success(finish(self.folder, *self.words, "--epochs", "5"))
        self.older = workload.snapshot(self.folder / self.out)
        shutil.move(self.folder / self.out, workload.beside(self.folder, "older"))
        super()._prepare()
        assert self.older["model.safetensors"] != self.expected["model.safetensors"]

    def _put_older_model(self) -> None:
        shutil.copytree(workload.beside(self.folder, "older"), self.folder / self.out)

    def _trial(self, number: int) -> Hit | None:
        if over := number % 2:
            self._put_older_model()
        stage = self.kill_within(self.seconds, command(self.folder, *self.words))
        right = self._one_whole_model([self.older if over else {}, self.expected])
        return stage and Hit("over an older model" if over else "first", stage, right and self.resumes())

    def _one_whole_model(self, possible: list[Snapshot]) -> bool:
        return self.contents() in possible


class Saving(Fit):
    """A fit over an older model, killed while it writes: in turn at one of its calls to the file system, and at any moment."""

    def _prepare(self) -> None:
        super()._prepare()
        self.clear()
        self._put_older_model()
        self.calls, self.seconds = self.told_by_fit(0, 0.0)

    def told_by_fit(self, call: int, seconds: float) -> Any:
        """What a fit tells that is to be killed at a call, or so long after it began to write."""
        link, theirs = workload.FORK.Pipe(duplex=False)
        process = start(_fit, self.folder, self.words, call, seconds, theirs)
        theirs.close()
        told = link.recv()
        process.join()
        return told

    def _trial(self, number: int) -> Hit | None:
        self._put_older_model()
        at_call = number % 2
        moment = (self.chance.randint(1, self.calls), 0.0) if at_call else (0, self.chance.uniform(1e-5, self.seconds))
        stage = self.told_by_fit(*moment)
        if not isinstance(stage, str):
            return None  # it had written all by then
        right = self._one_whole_model([self.older, self.expected])
        return Hit("at a call" if at_call else "at any moment", stage, right and self.resumes())


def _fit(words: tuple[str, ...], call: int, seconds: float, link: Connection) -> None:
    """A fit that kills itself while it writes its folder, and tells where; else how many calls and seconds the writing took.

    call: to the file system, before which it dies, from 1 on; seconds: until it dies from a thread, if not 0.
    """
    save, calls, saving = Model.save, 0, False

    def die(where: str) -> None:
        link.send(where)
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        if saving and (event == "open" or event.startswith(("os.", "shutil."))) and event != "os.kill":
            calls += 1
            if calls == call:
                die(f"{event} {Path(os.fsdecode(arguments[0])).name if isinstance(arguments[0], str | bytes) else ''}")

    def die_later(main: int) -> None:
        time.sleep(seconds)
        frame = sys._current_frames()[main]
        while frame.f_back and "hannet" not in frame.f_globals.get("__name__", ""):
            frame = frame.f_back
        if saving:
            die(f"{frame.f_globals['__name__'].removeprefix('hannet.')}, line {frame.f_lineno}")

    def observed(*given: Any) -> None:
        nonlocal saving
        if seconds:
            threading.Thread(target=die_later, args=(threading.get_ident(),), daemon=True).start()
        saving, began = True, time.perf_counter()
        save(*given)
        saving = False
        link.send((calls, time.perf_counter() - began))

    Model.save = observed  # type: ignore[method-assign, assignment]
    sys.addaudithook(watch)
    workload.run_command(*words)


class Sweep(Kind):
    """A sweep, in one of four ways: of ten times five, three, one and one."""

    words = (*workload.SWEEP, "--jobs", "1")
    out = "store"
    ways = ("one process",) * 5 + ("one of two side by side",) * 3 + ("a sweep of two jobs", "a worker of two")

    def _tidy(self) -> bool:
        store = self.folder / self.out
        return super()._tidy() and not [*store.glob("claims/*"), *store.glob("models/.*"), *store.glob(".*")]

    def _trial(self, number: int) -> Hit | None:
        victim = self.ways[number % 10]
        jobs = "2" if victim in self.ways[8:] else "1"
        first = command(self.folder, *workload.SWEEP, "--jobs", jobs)
        others = [command(self.folder, *self.words)] if victim == "one of two side by side" else []
        if victim == "a worker of two":
            stage = self._kill_worker(first)
            others.append(first)  # the sweep replaces its worker and ends well
        else:
            stage, helpers = self._kill_sweep(first)
            _, orphans = psutil.wait_procs(helpers, timeout=60)
            assert not orphans
        for process in others:
            process.join()
        well = not any(process.exitcode for process in others)
        return stage and Hit(victim, stage, well and self.resumes())

    def _kill_sweep(self, sweep: BaseProcess) -> tuple[str | None, list[psutil.Process]]:
        time.sleep(self.chance.uniform(0, self.seconds))
        helpers = psutil.Process(sweep.pid).children(recursive=True) if sweep.is_alive() else []
        return self.kill_within(0, sweep), helpers

    def _kill_worker(self, sweep: BaseProcess) -> str | None:
        time.sleep(self.chance.uniform(0, self.seconds))
        workers = psutil.Process(sweep.pid).children() if sweep.is_alive() else []
        return workload.kill(self.chance.choice(workers).pid, self.folder) or None if workers else None
