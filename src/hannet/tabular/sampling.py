"""Tables larger than memory: read in parts, and of their rows a sample."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from .encodings import Decoder

BLOCK = 2**24  # bytes
TAIL = 2**16  # bytes that are kept of the end


def read_up_to(stream: Any, limit: int) -> bytes:
    """The next bytes of a stream, `limit` at most; it takes memory for those that there are, unlike `read`."""
    try:
        size = os.fstat(stream.fileno()).st_size
    except OSError:  # no file of its own
        size = 0
    first = stream.read(min(max(BLOCK, size), limit))  # most often all, and in one piece it need not be copied
    held, limit = io.BytesIO(first), limit - len(first)
    held.seek(0, io.SEEK_END)
    while limit > 0 and (block := stream.read(min(BLOCK, limit))):
        held.write(block)
        limit -= len(block)
    return held.getvalue()


def sample(batches: Iterable[pa.RecordBatch], max_bytes: int, schema: pa.Schema) -> tuple[pa.Table, list[str]]:
    """All rows, or so many drawn at random, in their order, that they take less than max_bytes; and a note."""
    rng = np.random.default_rng(0)
    kept: list[pa.RecordBatch] = []
    seen, share, size = 0, 1.0, 0
    for batch in batches:
        seen += batch.num_rows
        kept.append(batch if share == 1 else batch.filter(pa.array(rng.random(batch.num_rows) < share)))
        size += kept[-1].nbytes
        if size > max_bytes:
            table = pa.Table.from_batches(kept)
            kept = table.filter(pa.array(rng.random(len(table)) < 0.5)).to_batches()
            share, size = share / 2, sum(part.nbytes for part in kept)
    table = pa.Table.from_batches(kept, None if kept else schema)
    note = f"the table is too large to be read whole: {len(table):,} of its {seen:,} rows, drawn at random, are used"
    return table, [note] * (share < 1)


class Blocks(io.RawIOBase):
    """A stream of whole lines.

    Args:
        start: The whole lines that have been read, changed.
        left: What has been read of the next line, not changed.
        rest: The stream that follows.
        decoder: Of what it reads.
        change: Made of each block of lines.
    """

    def __init__(self, start: bytes, left: bytes, rest: Any, decoder: Decoder, change: Callable[[bytes], bytes]):
        self.end = b""  # of the text, when all is read
        self._blocks = self._split(start, left, rest, decoder, change)
        self._block = memoryview(b"")

    def _split(
        self, start: bytes, left: bytes, rest: Any, decoder: Decoder, change: Callable[[bytes], bytes]
    ) -> Iterator[bytes]:
        yield start
        while block := rest.read(BLOCK):
            text = left + decoder.decode(block, final=False)
            cut = text.rfind(b"\n") + 1
            left, lines = text[cut:], change(text[:cut])
            self.end = (self.end + lines)[-TAIL:]
            yield lines
        last = change(left + decoder.decode(b"", final=True))
        self.end += last
        yield last

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; 0 at the end."""
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = memoryview(block)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._block))
        target[:count] = self._block[:count]
        self._block = self._block[count:]
        return count
