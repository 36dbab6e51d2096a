"""Files extracted from a publisher's .tar.gz."""

import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from ..storage.files import atomic_writer
from . import DataError

LARGEST = 16 << 30  # bytes that an archive may unpack to, those passed over included
_LONGEST = 1 << 20  # bytes of a header with long names, which is read whole

_UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError, TypeError, zlib.error)


class _BoundedHeader(tarfile.TarInfo):
    """An entry whose long names and other extensions take little memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header. Raises ValueError for an extension that is too long."""
        found = super().frombuf(buf, encoding, errors)
        extensions = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if found.type in (*extensions, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK) and found.size > _LONGEST:
            raise ValueError(found.size)
        return found


def extract(packed: Path, folder: Path, members: Mapping[str, int]) -> None:
    """Write the members of a .tar.gz that are asked for, by path and bytes, below a folder; each appears whole or not at all.

    Nothing else is extracted, wherever it wants to go. Raises DataError if one is missing, no plain file or of other bytes,
    for a damaged archive, for one that unpacks to more than 16 GiB, and for a folder that cannot hold them.
    """
    missing, unpacked = dict(members), 0
    try:
        with tarfile.open(packed, "r|gz", tarinfo=_BoundedHeader) as opened:
            for member in opened:
                unpacked += member.size
                if unpacked > LARGEST:
                    raise DataError(f"{packed}: unpacks to more than {LARGEST:,} bytes")
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
