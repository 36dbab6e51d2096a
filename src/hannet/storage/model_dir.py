"""Folders that are written whole or not at all, and take the place of what was there."""

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from .files import StoreError, exclusive_lock


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A temporary path to make a folder at: when the block ends well it replaces folder whole, else it goes. Raises StoreError.

    The path is in a new folder that only this user may enter, so that nobody can put a link there first.
    """
    folder = folder.resolve()
    private, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in ("", ".old"))
    shutil.rmtree(private, ignore_errors=True)  # of a process that was killed; a link stays, and is an error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        private.mkdir(mode=0o700)
        yield private / folder.name
        _replace(folder, private / folder.name, old)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _replace(folder: Path, temp_path: Path, old: Path) -> None:
    """Rename temp_path to folder; what was there goes, or comes back if that fails or is interrupted."""
    if folder.exists() and _exchange(temp_path, folder):
        return  # what was there is now at temp_path, and goes with it
    try:
        if folder.exists():
            folder.rename(old)
        temp_path.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places at one instant, so that none is ever missing; False where only Linux's renameat2 would do."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


def recover(folder: Path) -> None:
    """Put right what killed processes left beside a folder; for who holds its lock.

    A folder that was being replaced comes back if it is missing, and what is half written goes.
    """
    left = re.compile(rf"\.{re.escape(folder.name)}\.(\d+(\.old)?|probe-\w+)")
    with suppress(OSError):  # then `require_free` finds what is the matter
        aside = [path for path in folder.parent.iterdir() if left.fullmatch(path.name)]
        for path in sorted(aside, key=lambda path: path.suffix != ".old"):
            if path.suffix == ".old" and not folder.exists():
                path.rename(folder)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)


class OccupiedError(StoreError):
    """A folder that a model may not be saved in; the message is one sentence for the user."""


def require_free(folder: Path, parts: Collection[str], extras: Collection[str], *, force: bool) -> None:
    """Raises OccupiedError unless a model may be saved there: nothing is there yet, or a model and force.

    parts: the names of all files of a model; extras: of those that may lie beside them.
    """
    folder = folder.resolve()
    try:
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.probe-", dir=folder.parent):
            pass  # it can be written
    except OSError as error:
        raise OccupiedError(f"{error.filename or folder}: {error.strerror or error}") from error
    if found - {*parts, *extras} or (found and not found.issuperset(parts)):
        raise OccupiedError(f"{folder} holds files that are no model's: name another folder")
    if found and not force:
        raise OccupiedError(f"{folder} holds a model: --force replaces it, --out names another folder")


Hold = Callable[[Path, str], AbstractContextManager[object]]  # a lock file, what to say if another process holds it


@contextmanager
def reserve(
    folder: Path, parts: Collection[str], extras: Collection[str], *, force: bool, hold: Hold = exclusive_lock
) -> Iterator[None]:
    """Keep other processes from training for a folder while the block runs.

    Arguments as in require_free; hold: how a lock is held, where several processes train together. Raises OccupiedError
    unless a model may be saved there, StoreError if another process trains for it.
    """
    require_free(folder, parts, extras, force=force)
    busy = f"another process is training for {folder}: wait until it ends, or name another folder with --out"
    path = folder.resolve()
    with hold(path.with_name(f".{path.name}.lock"), busy):
        recover(path)
        require_free(folder, parts, extras, force=force)  # another training may have filled it in between
        yield
