"""Records are kept in a store, so that nothing is computed twice."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ..storage.files import StoreError, open_lock, store_errors, try_lock, write_atomic
from .record import Record, Run


def _plain(record: Record) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name not in ("curves", "sources") or value}


def _require_types(record: Record) -> Record:
    """The record, if what it is found and compared by is of the right types. Raises TypeError."""
    names = {
        str: ("key", "experiment", "device", "when"),
        dict: ("config", "metrics", "versions", "curves"),
        int: ("seed",),
    }
    for kind, fields in names.items():
        if wrong := next((field for field in fields if not isinstance(getattr(record, field), kind)), None):
            raise TypeError(wrong)
    return record


class Store:
    """A folder of records: `records.jsonl`, one line a record, and `models/KEY.safetensors` beside it.

    Several processes may append at once. A line counts once its newline is written: what a killed process left behind
    is skipped by readers and cut off by the next writer. Of two records of one run the later counts. Locks in `claims` keep
    processes from doing the same work; the operating system releases those of a process that died.
    """

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        """write: make the folder ready for records; else it is only read, and may be missing."""
        self.folder = folder
        self.path = folder / "records.jsonl"
        if not write:
            return
        with store_errors(folder):
            (folder / "models").mkdir(parents=True, exist_ok=True)
            self.path.touch()
            with self._lock():
                pass

    def _lock(self) -> FileLock:
        return open_lock(self.folder / "records.lock")

    def records(self) -> dict[str, Record]:
        """All records by the key of their run. Raises StoreError if a whole line is not a record."""
        with store_errors(self.path):
            *lines, _ = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        found = {}
        for number, line in enumerate(lines, 1):
            try:
                record = _require_types(Record(**json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                raise StoreError(f"{self.path}, line {number}: not a record; remove the line to go on") from error
            found[record.key] = record
        return found

    def missing(self, runs: Iterable[Run], *, models: bool = False) -> list[Run]:
        """The runs without a record (models: or without weights), each once, in order."""
        done = {key for key in self.records() if not models or self._model(key).is_file()}
        return list({run.key: run for run in runs if run.key not in done}.values())

    def append(self, records: Sequence[Record]) -> None:
        """Add records, all or none of them. Raises StoreError if the disk is full or the store cannot be written."""
        text = "".join(json.dumps(_plain(record), allow_nan=False) + "\n" for record in records).encode()
        with store_errors(self.path), self._lock(), self.path.open("ab+", buffering=0) as file:
            whole = self.path.read_bytes().rfind(b"\n") + 1
            file.truncate(whole)
            try:
                while text:  # one write, unless it fell short: then the next one raises what is the matter
                    text = text[file.write(text) :]
                os.fsync(file)
            except OSError:
                file.truncate(whole)
                raise

    @contextmanager
    def claim(self, runs: Iterable[Run]) -> Iterator[bool]:
        """Keep other processes off these runs: all of them, or none if another process holds one; which, it gives."""
        claims = self.folder / "claims"
        with ExitStack() as held:
            with store_errors(claims):
                claims.mkdir(exist_ok=True)
                paths = sorted({claims / f"{run.key}.lock" for run in runs})
                free = all(held.enter_context(try_lock(path)) for path in paths)
            if not free:
                held.close()
            yield free

    def tidy(self) -> None:
        """Remove the claims and half-written weights that killed processes left behind."""
        claims, models = self.folder / "claims", self.folder / "models"
        keys = {path.stem for path in claims.glob("*.lock")} | {path.name.split(".")[1] for path in models.glob(".*")}
        for key in keys:
            with store_errors(claims):
                claims.mkdir(exist_ok=True)
                with try_lock(claims / f"{key}.lock") as free:
                    for aside in models.glob(f".{key}.*") if free else ():
                        aside.unlink(missing_ok=True)

    def save_model(self, run: Run, model: nn.Module) -> None:
        """Keep the weights of a run's model: written aside, then renamed."""
        self.save_weights(run.key, serialize_weights(model))

    def save_weights(self, key: str, content: bytes) -> None:
        """The same of weights that are a safetensors file already."""
        write_atomic(self._model(key), content)

    def load_model(self, key: str, model: nn.Module) -> nn.Module:
        """Fill model with the weights kept under key, and return it. Raises StoreError if they are missing or misfit."""
        path = self._model(key)
        try:
            model.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise StoreError(f"{path}: missing, damaged or of another network; remove it and run again") from error
        return model

    def _model(self, key: str) -> Path:
        if not key.isalnum():  # a line of records.jsonl may say anything, such as ../../elsewhere
            raise StoreError(f"{self.path}: {key!r} is no key of a record; remove the line to go on")
        return self.folder / "models" / f"{key}.safetensors"


@contextmanager
def scratch_folder(run: Run) -> Iterator[Path]:
    """A folder in this machine's cache, where a long run keeps what it needs to go on; it goes when the run is done.

    If another process computes the same run it is a folder of this process's own, which goes in any case: none would find it.
    """
    import pooch

    root = Path(pooch.os_cache("hannet"), "unfinished")
    with store_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    with try_lock(root / f"{run.key}.lock") as mine:
        folder = root / (run.key if mine else f"{run.key}.{os.getpid()}")
        with store_errors(folder):
            folder.mkdir(exist_ok=True)
        done = False
        try:
            yield folder
            done = True
        finally:
            if done or not mine:
                shutil.rmtree(folder, ignore_errors=True)


def serialize_weights(model: nn.Module) -> bytes:
    """A model's weights as a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
