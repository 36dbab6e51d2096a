"""Commands in surroundings that fail them: each must succeed, or end with one sentence and lose nothing."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import workload
from workload import Snapshot, finish, snapshot

COMMANDS = {  # the words of each, and what it writes
    "fit": (workload.FIT, "model"),
    "train hannet": (workload.ENSEMBLE, "net"),
    "train han-mixer": (workload.MIXER, "net"),
    "reproduce": (("reproduce", "figure1", "--quick", "--out", "store", "--jobs", "1"), "store"),
    "export onnx": (("export", "ready", "--to", "onnx", "--out", "ready.onnx", "--force"), "ready.onnx"),
    "export c": (("export", "ready", "--to", "c", "--out", "ready-c", "--force"), "ready-c"),
    "predict": (("predict", "ready", "table.csv", "--out", "predictions.csv", "--force"), "predictions.csv"),
}


@dataclass(frozen=True)
class Running:
    """A command that runs. messages: the end of a pipe, on which no limit on files bears."""

    process: BaseProcess
    messages: int


@dataclass(frozen=True)
class Attempt:
    """How a command ended. fault: what is wrong with that, "" if nothing."""

    code: int
    fault: str


class Trials:
    """A command in folders with all that it needs. expected: what it writes where nothing is in its way."""

    def __init__(self, name: str, folder: Path):
        self.words, self.out = COMMANDS[name]
        self.inputs, self.folder = folder / "inputs", folder / "work"
        self.fresh()
        code = finish(self.folder, *self.words)
        assert code == 0, workload.beside(self.folder, "log").read_text()
        self.expected = snapshot(self.folder / self.out)

    def fresh(self, folder: Path | None = None) -> Path:
        """A folder with the inputs and nothing else."""
        folder = folder or self.folder
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(self.inputs, folder, dirs_exist_ok=True)
        workload.beside(folder, "log").unlink(missing_ok=True)
        return folder

    def start(self, folder: Path, set_up: Callable[[], object]) -> Running:
        """The command in a folder, after something else in the same process."""
        messages, end = os.pipe()
        process = workload.start(_run, folder, set_up, end, self.words)
        os.close(end)
        return Running(process, messages)

    def judge(self, folder: Path, running: Running, before: Snapshot) -> Attempt:
        """How it ended. before: what the folder of its results held, which must be there unless it succeeded."""
        process = running.process
        process.join(timeout=300)
        if hangs := process.exitcode is None:
            process.kill()
        with os.fdopen(running.messages, "rb") as pipe:
            text = pipe.read().decode(errors="replace")
        if hangs or process.exitcode is None:
            return Attempt(-1, "it hangs")
        code, after = process.exitcode, self.read(folder)
        *_, last = ["", *text.strip().splitlines()]
        if "Traceback" in text:
            return Attempt(code, f"a traceback: {last}")
        if code == 0:
            return Attempt(code, self.differences(after))
        if not last.startswith("hannet: "):
            return Attempt(code, f"exit code {code}, no sentence, but {last!r}")
        lost = {name for name in before if after.get(name) != before[name]}
        return Attempt(code, f"lost: {', '.join(sorted(lost))}" if lost else "")

    def differences(self, found: Snapshot) -> str:
        """What differs from the result that is expected: "" if nothing."""
        names = {name for name in {*found, *self.expected} if found.get(name, 0) != self.expected.get(name, 0)}
        return f"success, but other {', '.join(sorted(names))}" if names else ""

    def read(self, folder: Path) -> Snapshot:
        """What is there of the results."""
        with suppress(ValueError):  # a file that is half written
            return snapshot(folder / self.out)
        return {"damaged": True}

    def again(self, folder: Path) -> str:
        """Whether the command gives what it should once nothing is in its way: a fault, or ""."""
        code = finish(folder, *self.words)
        return "" if code == 0 and self.read(folder) == self.expected else f"afterwards it fails, exit code {code}"


def prepare(folder: Path) -> None:
    """The inputs of all commands: `workload.write_inputs`, and a fitted model."""
    inputs = folder / "inputs"
    workload.write_inputs(inputs)
    assert finish(inputs, *workload.FIT) == 0
    (inputs / "model").rename(inputs / "ready")


def _run(set_up: Callable[[], object], end: int, words: tuple[str, ...]) -> None:
    os.dup2(end, 1)
    os.dup2(end, 2)
    os.environ["COLUMNS"] = "300"  # a sentence stays on its line
    set_up()
    workload.run_command(*words)
