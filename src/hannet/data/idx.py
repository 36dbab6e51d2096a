"""IDX files, MNIST's."""

import struct
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from . import DataError, reading

_UNSIGNED_BYTE = 8  # the type that the header of an IDX file names


def labelled(paths: Sequence[Path], count: int, size: Sequence[int], classes: int) -> tuple[Tensor, Tensor]:
    """MNIST's two gzipped files: images of one channel, labels.  x: (count, *size), uint8; y: (count,), int64.

    Raises DataError for anything else, and for a label out of range.
    """
    pixels, labels = paths
    x = _read(pixels, (count, *size[1:]))
    y = _read(labels, (count,)).long()
    if (largest := int(y.max())) >= classes:
        raise DataError(f"{labels}: holds the label {largest}, but there are only {classes} classes")
    return x[:, None], y


def _read(path: Path, shape: Sequence[int]) -> Tensor:
    with reading(path):
        content = path.read_bytes()
    return parse(content, shape, str(path))


def parse(content: bytes, shape: Sequence[int], name: str) -> Tensor:
    """The bytes that a gzipped IDX file holds, uint8, of that shape; never unpacks more than it takes.

    Raises DataError, which begins with the name, for anything but one such file of exactly that shape.
    """
    start = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    size = len(start) + prod(shape)
    decompressor = zlib.decompressobj(zlib.MAX_WBITS + 16)  # + 16: with the header and the checksum of gzip
    try:
        unpacked = decompressor.decompress(content, size + 1)
    except zlib.error as error:
        raise DataError(f"{name}: not a gzip file, or damaged") from error
    if unpacked[: len(start)] != start[: len(unpacked)]:
        raise DataError(f"{name}: not an IDX file of {' x '.join(map(str, shape))} unsigned bytes")
    if len(unpacked) > size or decompressor.unused_data:
        raise DataError(f"{name}: has more than its {size:,} bytes")
    if not decompressor.eof:
        raise DataError(f"{name}: cut short")
    if len(unpacked) < size:
        raise DataError(f"{name}: holds {len(unpacked):,} bytes instead of {size:,}")
    return torch.frombuffer(bytearray(unpacked), dtype=torch.uint8, offset=len(start)).reshape(*shape)
