"""Images in classes: MNIST, and a user's own from an .npz file."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import DataError
from .fetch import File, Source, find

_UNSIGNED_BYTE = 8  # the type that the header of an IDX file names


@dataclass(frozen=True)
class Images:
    """x: (n, channels, height, width), uint8; y: (n,), int64, positions in classes."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """Images of one size, (channels, height, width). files and counts: of the part to train on, then the part to test on."""

    size: tuple[int, int, int]
    counts: tuple[int, int]
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.size


def _file(name: str, sha256: str) -> File:
    return File("mnist", f"{name}.gz", f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz", sha256)


_MNIST = ImageSource(
    name="mnist",
    title="Handwritten digits",
    origin="LeCun, Cortes and Burges 1998",
    files=(
        _file("train-images-idx3-ubyte", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _file("train-labels-idx1-ubyte", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        _file("t10k-images-idx3-ubyte", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _file("t10k-labels-idx1-ubyte", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    terms="CC BY-SA 3.0",
    rows=70000,
    target="the digit",
    task="classification",
    quirks="60,000 images to train on, then 10,000 to test on, by other writers.",
    size=(1, 28, 28),
    counts=(60000, 10000),
    classes=tuple("0123456789"),
)

SETS = {_MNIST.name: _MNIST}


def mnist(part: Literal["train", "test"] = "train") -> Images:
    """MNIST's 60,000 training or 10,000 test images, (1, 28, 28), as its publishers give them, downloaded at first use.

    Raises ValueError for another part, DataError if a file cannot be had or is damaged.
    """
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", got {part!r}')
    source, place = SETS["mnist"], part == "test"
    count, files = source.counts[place], source.files[2 * place :]
    x = _read(find(files[0]), (count, *source.size[1:]))
    labels = find(files[1])
    y = _read(labels, (count,)).long()
    if (largest := int(y.max())) >= len(source.classes):
        raise DataError(f"{labels}: holds the label {largest}, but there are only {len(source.classes)} classes")
    return Images(x[:, None], y, source.classes)


def _read(path: Path, shape: Sequence[int]) -> Tensor:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(content, shape, str(path))


def parse(content: bytes, shape: Sequence[int], name: str) -> Tensor:
    """The bytes that a gzipped IDX file holds, uint8, of that shape; never unpacks more than it takes.

    Raises DataError, which begins with the name, for anything but one such file of exactly that shape.
    """
    start = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    size = len(start) + prod(shape)
    unpacking = zlib.decompressobj(zlib.MAX_WBITS + 16)  # + 16: with the header and the checksum of gzip
    try:
        unpacked = unpacking.decompress(content, size + 1)
    except zlib.error as error:
        raise DataError(f"{name}: not a gzip file, or damaged") from error
    if unpacked[: len(start)] != start[: len(unpacked)]:
        raise DataError(f"{name}: not an IDX file of {' x '.join(map(str, shape))} unsigned bytes")
    if len(unpacked) > size or unpacking.unused_data:
        raise DataError(f"{name}: goes on after its {size:,} bytes")
    if not unpacking.eof:
        raise DataError(f"{name}: cut short")
    if len(unpacked) < size:
        raise DataError(f"{name}: holds {len(unpacked):,} bytes instead of {size:,}")
    return torch.frombuffer(bytearray(unpacked), dtype=torch.uint8, offset=len(start)).reshape(*shape)


def stored(path: Path) -> tuple[Tensor, Tensor]:
    """The arrays x and y of an .npz file.  x: (n, ...), float32 or float64, in [0, 1]; uint8 is divided by 255. y: (n,), int64.

    Raises DataError for anything else.
    """
    faults = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there") from error
    except (*faults, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an .npz file with the arrays x and y, or damaged") from error
    if x.dtype not in (np.uint8, np.float32, np.float64) or x.ndim < 2 or not x.size:
        raise DataError(f"{path}: x must be (n, ...), uint8, float32 or float64, got {x.shape}, {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise DataError(f"{path}: y must be {len(x)} whole numbers, one for each x, got {y.shape}, {y.dtype}")
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x
    if not bool(((x >= 0) & (x <= 1)).all()):  # not a number is neither
        raise DataError(f"{path}: x must be uint8, or numbers from 0 to 1")
    if int(y.min()) < 0 or int(y.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: y must be classes from 0 on, got {y.min()} to {y.max()}")
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64))
