"""Files extracted from a publisher's .tar.gz."""

import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ..storage.files import atomic_writer
from . import DataError

_UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError, TypeError, zlib.error)


def extract(packed: Path, folder: Path, members: Mapping[str, int]) -> None:
    """Write the members of a .tar.gz that are asked for, by path and bytes, below a folder; each appears whole or not at all.

    Nothing else is extracted, wherever it wants to go. Raises DataError if one is missing, no plain file or of other bytes,
    for a damaged archive, and for a folder that cannot hold them.
    """
    missing = dict(members)
    try:
        with tarfile.open(packed, "r|gz") as opened:
            for member in opened:
                path = member.name.removeprefix("./")
                if path not in missing:
                    continue
                size = missing.pop(path)
                content = opened.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None or member.size != size:
                    raise DataError(f"{packed}: {path} is not the file of {size:,} bytes that it should be")
                _write(content, folder / path)
                if not missing:
                    return
    except _UNREADABLE as error:
        raise DataError(f"{packed}: not a .tar.gz file, or damaged") from error
    raise DataError(f"{packed}: does not hold {next(iter(missing))}")


def _write(content: IO[bytes], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as opened:
            shutil.copyfileobj(content, opened)
    except OSError as error:
        raise DataError(f"{path.parent}: cannot hold {path.name} ({error.strerror}); make room there") from error
