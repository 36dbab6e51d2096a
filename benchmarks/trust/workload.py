"""What the programs of this folder share: small inputs, and commands of hannet as forks of one process that has imported everything."""

import faulthandler
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hannet import cli
from hannet.experiments import runner, store
from hannet.experiments.record import Record, Run

Snapshot = dict[str, Any]
FORK = multiprocessing.get_context("fork")
FIT = ("fit", "table.csv", "--target", "y", "--members", "1", "--no-baselines", "--out", "model", "--force")
_IMAGES = (
    "train",
    "images",
    "photos",
    "--size",
    "16",
    "--width",
    "16",
    "--batch",
    "16",
    "--minutes",
    "0",
    "--out",
    "net",
)
ENSEMBLE = (*_IMAGES, "--force", "--depth", "3", "--epochs", "8")
MIXER = (*_IMAGES, "--force", "--model", "han-mixer", "--depth", "1", "--epochs", "2")
SWEEP = ("reproduce", "figure1", "--quick", "--shard", "1/2", "--out", "store")
# What differs from run to run, and from a process to a fork of one that has imported more.
TIMED = {"seconds", "when", "images_per_second", "waiting", "folder", "versions"}
ITERATIONS = 20  # of each net of the sweep


def warm_up() -> None:
    """Run each command once, so that a fork begins to work at once: all is imported then, and the kernels are loaded."""
    torch.set_num_threads(1)  # a fork of a process with threads computes on one, or not at all
    board = import_module("hannet.experiments.paper._board")
    board.QUICK_ITERATIONS = ITERATIONS  # type: ignore[attr-defined]
    runner.CONTEXT = FORK  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="hannet-warm-") as folder, chdir(folder), redirect_stderr(io.StringIO()):
        write_inputs(Path(folder, "inputs"))
        os.chdir("inputs")
        for words in (FIT, ENSEMBLE, MIXER, SWEEP):
            with redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
                run_command(*words)
            assert out.getvalue(), f"hannet {' '.join(words)} failed"


def write_inputs(folder: Path) -> None:
    """A small table, `table.csv`, and a folder of pictures, `photos`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'uvw'[n % 3]},{2 * a + n % 3:.3f}" for n, (a, b) in enumerate(rng.normal(size=(120, 2)))]
    (folder / "table.csv").write_text("\n".join(["a,b,kind,y", *rows]) + "\n")
    for channel, name in enumerate(("limes", "plums")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")


def start(function: Callable[..., object], folder: Path, *arguments: object) -> BaseProcess:
    """A function in a folder, as a fork; what it prints is added to FOLDER.log, and SIGUSR1 adds its stack to FOLDER.stack."""
    process = FORK.Process(target=_serve, args=(function, folder, *arguments))
    process.start()
    return process


def command(folder: Path, *words: str) -> BaseProcess:
    """`hannet WORDS`, likewise."""
    return start(run_command, folder, *words)


def finish(folder: Path, *words: str) -> int:
    """`hannet WORDS`, run to its end: the exit code."""
    process = command(folder, *words)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_command(*words: str) -> None:
    """`hannet WORDS` in this process."""
    sys.argv = ["hannet", *words]
    cli.main()


def _serve(function: Callable[..., object], folder: Path, *arguments: object) -> None:
    os.chdir(folder)
    log = os.open(beside(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    stack = os.open(beside(folder, "stack"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    faulthandler.register(signal.SIGUSR1, file=stack)
    function(*arguments)


def beside(folder: Path, ending: str) -> Path:
    """The file FOLDER.ending."""
    return folder.with_name(f"{folder.name}.{ending}")


def kill(pid: int, folder: Path) -> str:
    """SIGKILL; returns where in hannet the process was just before, "" if it does not tell."""
    path = beside(folder, "stack")
    path.write_bytes(b"")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        patience = time.monotonic() + 0.05
        while "most recent call first" not in path.read_text(errors="replace") and time.monotonic() < patience:
            time.sleep(0.0005)
        time.sleep(0.001)  # until all frames are there
        os.kill(pid, signal.SIGKILL)
    *_, main = threads = path.read_text(errors="replace").split("hread 0x")
    for text in (main, *threads):
        if inside := re.findall(r'File ".*/(?:hannet|(distributed))/(\S+)\.py", line', text):
            return ".".join(filter(None, inside[0])).replace("/", ".")
    return "libraries" if len(threads) > 1 else ""


def snapshot(path: Path) -> Snapshot:
    """The files of a folder, or a file, without what differs from run to run: seconds, dates, texts and pictures with them."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): _content(file) for file in files if file.suffix != ".lock"}


def _content(path: Path) -> Any:
    content = path.read_bytes()
    match path.suffix:
        case ".jsonl":  # records, in any order
            return {record["key"]: _untimed(record) for record in map(json.loads, content.splitlines())}
        case ".json":
            return _untimed(json.loads(content))
        case ".md" | ".html" | ".png" | ".svg":
            return None
    return content


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _untimed(part) for name, part in value.items() if name not in TIMED}
    return [_untimed(part) for part in value] if isinstance(value, list) else value


@contextmanager
def no_process_left() -> Iterator[None]:
    """When the block ends, however it does, so do its forks; Ctrl-C is exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        for process in multiprocessing.active_children():
            process.kill()


def save_record(
    folder: Path, name: str, config: dict[str, object], seed: int, metrics: dict[str, float], began: float
) -> None:
    """Add the record of a program that began then to a folder of records."""
    run = Run(f"trust {name}", config, seed)
    store.Store(folder).append([Record.of(run, metrics, time.perf_counter() - began)])
