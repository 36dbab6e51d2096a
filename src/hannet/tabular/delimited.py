"""Tables that are text: with separators between the fields, or of fixed width."""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .dialect import COMMENTS, Dialect, sniff, split_lines, unify
from .encodings import Decoder
from .layout import Wish, locate
from .rows import Rows
from .sampling import Blocks, read_up_to
from .table import TableError

EXCEL_HINT = re.compile(rb"sep=([,;\t|])\r?\n")  # Excel's own first line
HEAD = 2**15  # bytes in which the dialect is looked for
MAX_HEAD = 2**22  # if lines are long
MAX_WHOLE = 2**31  # bytes of text that are read if no sample will do
SUPPORTED = "a table is CSV, TSV or other text with separators, Parquet, JSON or a spreadsheet, compressed or not"
MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|table|div|head|body)", re.IGNORECASE)
NOISE = re.compile(rb"[\0\x02-\x08\x0e-\x19\x1b-\x1e]")  # \x01 and \x1f may separate fields
MAX_NOISE = 8  # or a hundredth of the characters


@dataclass(frozen=True)
class Columns:
    """What the reader of a format found: names as the file has them, columns of text, notes, and which columns are numbers."""

    names: list[str]
    texts: list[pa.ChunkedArray]
    notes: list[str]
    delimiter: str = ","
    numeric: frozenset[int] = frozenset()


def read_text(stream: Any, wish: Wish, dialect: Dialect | None = None) -> Columns:
    """Read a table of lines.

    Args:
        stream: Its bytes.
        wish: What is known of the file.
        dialect: How lines are divided, if that is known.

    Returns:
        The columns as text.

    Raises:
        TableError: It is no table; the message is to follow the name of the file.
    """
    limit = wish.max_bytes or MAX_WHOLE
    content = read_up_to(stream, limit + 1)
    more = len(content) > limit
    if more and not wish.max_bytes:
        raise TableError(f": the table has more than {MAX_WHOLE >> 30} GiB of text: divide it into several files")
    decoder = Decoder(content, wish.encoding, whole=not more)
    text = decoder.decode(content, final=not more)
    del content  # a large table need not be held twice
    _check_text(text)
    if b"\n" not in text[:MAX_HEAD]:
        text = text.replace(b"\r", b"\n")  # as old Macs end lines
    text, skipped, hint = _skip(text, wish.skip or 0)
    head = _first_lines(text)
    mark = next((mark for mark in COMMENTS if head.lstrip().startswith(mark)), "")
    bare = re.sub(rf"(?m)^{re.escape(mark)}.*", "", head) if mark else head
    dialect = dialect or (Dialect(hint) if hint else sniff(bare if bare.strip() else head))
    cut = text.rfind(b"\n") + 1 if more else len(text)  # `unify` takes whole lines
    text, left = unify(text[:cut], dialect), text[cut:]
    head = _first_lines(text)
    layout = locate(head, dialect, mark, wish)
    text = text[len("".join(split_lines(head)[: layout.line]).encode()) :]
    rows = Rows(text, 1 + skipped + layout.line, dialect, layout, mark)
    del text
    if more:
        texts, notes = rows.sample(
            lambda start: Blocks(start, left, stream, decoder, lambda block: unify(block, dialect)), limit
        )
    else:
        texts, notes = rows.read()
    return Columns(layout.names, texts, [*decoder.notes, *layout.notes, *notes], dialect.delimiter)


def _check_text(text: bytes) -> None:
    start = text[:HEAD]
    if MARKUP.match(start):
        raise TableError(f" is a web page or XML, no table: {SUPPORTED}")
    if len(NOISE.findall(start)) > max(MAX_NOISE, len(start) / 100):
        raise TableError(f" is not text: {SUPPORTED}")
    if not start.strip(b"\x1a \t\r\n") and not text.strip(b"\x1a \t\r\n"):
        raise TableError(" is empty")


def _skip(text: bytes, lines: int) -> tuple[bytes, int, str]:
    """The text behind so many lines; how many were skipped, with Excel's line that names the delimiter; that delimiter, or ""."""
    start = 0
    for _ in range(lines):
        start = text.find(b"\n", start) + 1 or len(text)
    if start == len(text):
        raise TableError(f" has no more than {lines:,} lines, and all of them are to be skipped")
    hint = EXCEL_HINT.match(text, start)
    end = hint.end() if hint else start
    return text[end:] if end else text, lines + bool(hint), hint[1].decode() if hint else ""


def _first_lines(text: bytes) -> str:
    """The text's first whole lines, several of them if it has so many."""
    size = HEAD
    while text.count(b"\n", 0, size) < 5 and size < min(len(text), MAX_HEAD):
        size *= 4
    return (text[: text.rfind(b"\n", 0, size) + 1] or text[:size] if len(text) > size else text).decode(
        errors="replace"
    )
