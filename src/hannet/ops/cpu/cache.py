"""Machine code on disk: Numba's cache in files that are whole or are not read, and whose faults end nothing.

Numba keeps an index and numbered files. A damaged one ends every later start, one that cannot be written ends the program, and
of two processes that start at once one may find the other's code under the number that it chose itself. Here each version of
a function is one file, named by all that it was compiled from and for, with a checksum in front.
"""

import hashlib
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import sigutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc

_CHECKSUM = hashlib.sha256().digest_size


class DamagedError(ValueError):
    """A file that is not what this user wrote."""


class _Files(IndexDataCacheFile):
    """A file a version. Written under another name first, so that a file of the right name is whole."""

    def path(self, key: Any) -> Path:
        """Where the version lies that was compiled from these sources, by this Numba, for a signature and a processor."""
        name = hashlib.sha256(repr((_sources(), self._version, key)).encode()).hexdigest()
        return Path(self._cache_path, self._data_name_pattern.partition("-")[0] + f"-{name[:32]}.nbc")

    def load(self, key: Any) -> Any:
        """What was saved, or None. Raises DamagedError, and for a file that another user may have put there."""
        path = self.path(key)
        try:
            with path.open("rb") as file:
                owner, content = os.fstat(file.fileno()).st_uid, file.read()
        except FileNotFoundError:
            return None
        if hasattr(os, "geteuid") and owner not in (os.geteuid(), 0):
            raise DamagedError(f"{path} belongs to another user")
        payload = content[_CHECKSUM:]
        if hashlib.sha256(payload).digest() != content[:_CHECKSUM]:
            raise DamagedError(f"{path} is damaged")
        return pickle.loads(payload)  # noqa: S301  machine code, which is trusted as the sources beside it are

    def save(self, key: Any, data: Any) -> None:
        """Writes a file. Raises OSError."""
        payload = self._dump(data)
        with self._open_for_write(self.path(key)) as file:
            file.write(hashlib.sha256(payload).digest() + payload)


class KernelCache(FunctionCache):
    """Numba's cache of one function, which is compiled again whenever something is wrong with its files."""

    def __init__(self, function: Any):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, None)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled version, or None."""
        with _warn_once("compiled kernels cannot be read and are compiled again"):
            return super().load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps a compiled version, where that is possible."""
        with _warn_once("compiled kernels cannot be kept, so that every start compiles them again"):
            super().save_overload(sig, data)


def keep(compiled: Any, function: Any) -> Any:
    """`compiled`, what Numba makes of the function, with this cache; without one where no folder can be written."""
    with _warn_once("compiled kernels cannot be kept, so that every start compiles them again"):
        compiled._cache = KernelCache(function)
    return compiled


def compile_c(function: Any, signature: Any) -> Any:
    """numba.cfunc(signature, cache=True)(function), with this cache."""
    compiled = keep(CFunc(function, sigutils.normalize_signature(signature), locals={}, options={}), function)
    compiled.compile()
    return compiled


_warned = False


@contextmanager
def _warn_once(what: str) -> Iterator[None]:
    """Inside, any error becomes a warning, the first time in a process."""
    global _warned
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever lies there, and whatever a file system says
        if not _warned:
            _warned = True
            warnings.warn(f"{what}: {error}; NUMBA_CACHE_DIR names another folder", RuntimeWarning, stacklevel=2)


@cache
def _sources() -> str:
    """The sources that kernels are compiled from; Numba's own cache watches the file of the function alone."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
