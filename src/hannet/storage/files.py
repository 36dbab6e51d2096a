"""Files that are written whole or not at all, and locks that end with their process."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what file systems say to flock


class StoreError(RuntimeError):
    """A store that cannot be read or written; the message is one sentence for the user."""


def read_json_object(path: Path, error: type[Exception]) -> dict[str, Any]:
    """The JSON object in a file. Raises `error`, with one sentence, for a file that cannot be read or holds anything else."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path}: damaged, or not written by hannet") from fault
    if not isinstance(found, dict):
        raise error(f"{path}: damaged, or not written by hannet")
    return found


def open_lock(path: Path) -> FileLock:
    """A lock on a file, which ends with its process."""
    return FileLock(path, fallback_to_soft=False)  # what it would fall back to outlives a process that is killed


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock file, unless another process does: which, it gives. The lock ends with its process. Raises StoreError."""
    lock = open_lock(path)
    with store_errors(path), suppress(Timeout):
        lock.acquire(blocking=False)
    if not lock.is_locked:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()  # while it is locked: whoever opened this file before sees that it is gone, and opens another
        lock.release()


@contextmanager
def exclusive_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs. Raises StoreError, which says `busy`, if another process holds it."""
    with try_lock(path) as acquired:
        if not acquired:
            raise StoreError(busy)
        yield


@contextmanager
def atomic_writer(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A temporary file to write to: when the block ends well it takes the place of path, which is never half written.

    A link that someone put there is replaced, never written through. durable: it is on the disk, not only in its cache, when the
    block has ended. Raises OSError.
    """
    temp_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp_path.unlink(missing_ok=True)  # of a process that was killed, or a link put there
        with temp_path.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temp_path.replace(path)
    finally:
        with suppress(OSError):  # of a folder that cannot be written, which has been raised
            temp_path.unlink(missing_ok=True)
    if durable and os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the new name is in the cache only
        finally:
            os.close(folder)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises StoreError."""
    try:
        with atomic_writer(path) as file:
            file.write(content)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes a StoreError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StoreError(f"{path}: this file system has no locks, which are needed there") from error
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error
