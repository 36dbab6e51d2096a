"""Files that are written whole or not at all, and locks that end with their process."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what file systems say to flock


class StoreError(RuntimeError):
    """A store that cannot be read or written; the message is one sentence for the user."""


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


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file aside, then rename it, so that path is never half written. Raises StoreError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            aside.write_bytes(content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
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
