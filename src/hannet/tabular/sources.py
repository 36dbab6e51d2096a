"""Bytes of a table: from a file, an archive with one file in it, or standard input."""

import bz2
import gzip
import io
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from .table import TableError, join_names

STDIN = Path("-")
COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
ZIP = b"PK\x03\x04"
WORKBOOK_PARTS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")  # of .xlsx, .xlsb, .ods
BESIDE = ("__MACOSX/", ".DS_Store", "Thumbs.db")  # what operating systems add to archives
FAULTS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


@contextmanager
def open_source(path: Path) -> Iterator[io.BufferedReader]:
    """The decompressed content of a file, or of standard input if the path is "-".

    Raises:
        TableError: It cannot be read, in the block too, or is an archive of several files; the message is to follow the name of the file.
    """
    with ExitStack() as stack:
        try:
            raw: Any = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
            yield _decompress(raw if hasattr(raw, "peek") else io.BufferedReader(raw))
        except TableError:
            raise
        except FAULTS as error:
            raise TableError(f": {getattr(error, 'strerror', None) or error}") from error


def _decompress(stream: io.BufferedReader) -> io.BufferedReader:
    start = stream.peek(8)[:8]
    for prefix, opener in COMPRESSIONS.items():
        if start.startswith(prefix):
            return _decompress(io.BufferedReader(opener(stream)))
    if not start.startswith(ZIP):
        return stream
    content = stream if stream.seekable() else io.BufferedReader(cast("Any", io.BytesIO(stream.read())))
    with _opening_archive():
        archive = zipfile.ZipFile(content)
    if any(name in WORKBOOK_PARTS for name in archive.namelist()):
        content.seek(0)
        return content
    files = [
        entry for entry in archive.infolist() if not entry.filename.endswith("/") and not _is_beside(entry.filename)
    ]
    if len(files) != 1:
        names = ": " + join_names([repr(entry.filename) for entry in files]) if files else ""
        raise TableError(f": files in the archive: {len(files)}{names}; one table is needed, so unpack it first")
    if files[0].flag_bits & 1:
        raise TableError(" is protected by a password: unpack it first")
    with _opening_archive():
        member = io.BufferedReader(cast("Any", archive.open(files[0])))
    return member if member.peek(4)[:4] == ZIP else _decompress(member)  # archives in archives may have no end


@contextmanager
def _opening_archive() -> Iterator[None]:
    """What zipfile makes of damaged names and sizes becomes a TableError."""
    try:
        yield
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise TableError(f" is a damaged archive ({error})") from error


def _is_beside(name: str) -> bool:
    return name.startswith(BESIDE) or name.endswith(BESIDE)
