"""Folders that are written whole or not at all, and take the place of what was there."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .files import StoreError, try_lock


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A path aside to make a folder at: when the block ends well it replaces folder whole, else it goes. Raises StoreError."""
    folder = folder.resolve()
    aside, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in ("", ".old"))
    try:
        yield aside
        _replace(folder, aside, old)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace(folder: Path, aside: Path, old: Path) -> None:
    """Rename aside to folder; what was there goes, or comes back if that fails or is interrupted."""
    try:
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def require_free(folder: Path, parts: Collection[str], more: Collection[str], *, force: bool) -> None:
    """Raises StoreError unless a model may be saved there: nothing is there yet, or a model and force.

    parts: the names of all files of a model; more: of those that may lie beside them.
    """
    folder = folder.resolve()
    try:
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent):
            pass  # it can be written
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    if found - {*parts, *more} or (found and not found.issuperset(parts)):
        raise StoreError(f"{folder} holds files that are no model's: name another folder")
    if found and not force:
        raise StoreError(f"{folder} holds a model: --force replaces it, --out names another folder")


def lock(folder: Path) -> tuple[Path, str]:
    """The file that whoever trains for the folder holds locked, and what to tell others."""
    busy = f"another process is training for {folder}: wait until it ends, or name another folder with --out"
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.lock"), busy


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep others from training for the folder as long as the block runs. Raises StoreError if another process does."""
    path, busy = lock(folder)
    with try_lock(path) as mine:
        if not mine:
            raise StoreError(busy)
        yield
