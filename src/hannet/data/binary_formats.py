"""Images as the publishers of CIFAR, STL10 and Downsampled ImageNet write them: records, columns, .npz batches."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import DataError, ProgressCallback, reading
from .memory import require_free

_CHUNK = 1 << 20
UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, OverflowError, SyntaxError),
    *(NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, TokenError),
)  # what zipfile, zlib and the parser of an .npy header say to rubbish


def _allocate(count: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Uninitialised images and their classes, in the computer's memory whatever the default device."""
    with torch.device("cpu"):
        return torch.empty(count, *size, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)


def records(
    paths: Sequence[Path], count: int, size: Sequence[int], classes: int, labels: int = 1
) -> tuple[Tensor, Tensor]:
    """CIFAR's binary version: for each image some bytes of labels, of which the last one counts, then its pixels.

    x: (count, *size), uint8; y: (count,), int64. Each file holds as many images. Raises DataError for a file of other bytes,
    and for a label out of range.
    """
    x, y = _allocate(count, size)
    each, width = count // len(paths), labels + prod(size)
    for path, x_part, y_part in zip(paths, x.split(each), y.split(each), strict=True):
        rows = _content(path, each * width).reshape(each, width)
        x_part[:] = rows[:, labels:].reshape(each, *size)
        y_part[:] = _positions(rows[:, labels - 1].long().numpy(), classes, 0, path)
    return x, y


def columns(paths: Sequence[Path], count: int, size: Sequence[int], classes: int) -> tuple[Tensor, Tensor]:
    """STL10's two files: pixels, each channel column by column; labels from 1 on.  x: (count, *size), uint8; y: (count,), int64.

    Raises DataError for a file of other bytes, and for a label out of range.
    """
    pixels, labels = paths
    channels, height, width = size
    x = _content(pixels, count * prod(size)).reshape(count, channels, width, height)
    y = _content(labels, count)
    return x.transpose(2, 3).contiguous(), _positions(y.numpy(), classes, 1, labels)


def batches(
    paths: Sequence[Path], count: int, size: Sequence[int], classes: int, on_progress: ProgressCallback | None = None
) -> tuple[Tensor, Tensor]:
    """Downsampled ImageNet's .npz files: data, (n, pixels), uint8, and labels, (n,), from 1 on, one file after the other.

    x: (count, *size), uint8, filled in place, so that nothing is held twice; y: (count,), int64. on_progress: called with
    images read and images to read. Raises DataError for anything but such files that hold that many images together, before
    memory is asked for, and if there is too little of it.
    """
    counts = [_rows(path, prod(size)) for path in paths]
    if sum(counts) != count:
        raise DataError(f"{paths[0].parent}: its files hold {sum(counts):,} images instead of {count:,}")
    require_free(count * prod(size), f"{paths[0].parent}: {count * prod(size):,} bytes of images")
    try:
        x, y = _allocate(count, size)
    except RuntimeError as error:  # the allocator's
        raise DataError(f"{paths[0].parent}: {count * prod(size):,} bytes of images do not fit into memory") from error
    done = 0
    for path, x_part, y_part in zip(paths, x.split(counts), y.split(counts), strict=True):
        with _array(path, "data") as (stream, _, _):
            _fill(stream, x_part.flatten().numpy())
        y_part[:] = _positions(_labels(path, len(y_part)), classes, 1, path)
        done += len(y_part)
        if on_progress:
            on_progress(done, count)
    return x, y


def _content(path: Path, size: int) -> Tensor:
    """The bytes of a file that must have that many."""
    with reading(path):
        content, found = np.fromfile(path, np.uint8, size), path.stat().st_size
    if len(content) != size or found != size:
        raise DataError(f"{path}: holds {found:,} bytes instead of {size:,}")
    return torch.from_numpy(content)


def _positions(labels: NDArray[np.integer], classes: int, first: int, path: Path) -> Tensor:
    """Labels that begin with first, as positions from 0 on."""
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < first or largest >= first + classes:
        wrong = smallest if smallest < first else largest
        raise DataError(f"{path}: holds the label {wrong}, but labels are {first} to {first + classes - 1}")
    return torch.from_numpy(labels.astype(np.int64) - first)


def _rows(path: Path, features: int) -> int:
    """How many images an .npz file holds, by the header of its data."""
    with _array(path, "data") as (_, shape, dtype):
        if dtype != np.uint8 or len(shape) != 2 or shape[0] < 1 or shape[1] != features:
            raise DataError(f"{path}: data must be (n, {features}), uint8, got {shape}, {dtype}")
        return shape[0]


def _labels(path: Path, rows: int) -> NDArray[np.integer]:
    with _array(path, "labels") as (stream, shape, dtype):
        if shape != (rows,) or dtype.kind not in "iu":
            raise DataError(f"{path}: labels must be {rows} whole numbers, one for each image, got {shape}, {dtype}")
        labels = np.empty(rows, dtype)
        _fill(stream, labels.view(np.uint8))
    return labels


@contextmanager
def _array(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """The bytes of an array of an .npz file, not unpacked yet, with its shape and type; it is never unpickled."""
    try:
        with zipfile.ZipFile(path) as packed:
            member = packed.getinfo(f"{name}.npy")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(member.compress_type)  # its reader would unpack without a bound
            with packed.open(member) as stream:
                if np.lib.format.read_magic(stream) != (1, 0):  # later headers may be of gigabytes
                    raise ValueError(name)
                shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
                if by_columns and len(shape) > 1:
                    raise ValueError(name)
                yield stream, shape, dtype
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path}: not an .npz file with the arrays data and labels, or damaged") from error


def _fill(stream: IO[bytes], target: NDArray[np.uint8]) -> None:
    done = 0
    while done < len(target):
        chunk = stream.read(min(len(target) - done, _CHUNK))
        if not chunk:
            raise EOFError
        target[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    if stream.read(1):
        raise ValueError(len(target))
