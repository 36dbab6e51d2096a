"""CIFAR-10 in a few files under 60 MB, without a pixel's loss: what a pixel differs by from what its neighbours tell, compressed.

Each of the parts holds every so-many-th image, both of those to train on and of those to test on, so that one alone is of use.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_CHUNK = 2500  # images that are packed and unpacked together, on threads


def names(folder: Path, parts: int) -> list[Path]:
    """The files."""
    return [folder / f"cifar10-{number + 1}-of-{parts}.zip" for number in range(parts)]


def find(folder: Path) -> list[Path]:
    """Those that there are of the parts."""
    return sorted(folder.glob("cifar10-*-of-*.zip"))


def residuals(x: Pixels) -> Pixels:
    """Each pixel's difference to the median of left, above, and left + above - corner, of the channels green, red - green, and blue
    minus the mean of these two, modulo 256: the predictor of lossless JPEG (LOCO-I).  (n, 3, h, w) -> (3, n, h, w).
    """
    red, green, blue = np.moveaxis(x.astype(np.int16), 1, 0)
    planes = np.stack([green, red - green, blue - ((red + green) >> 1)])
    found = np.empty_like(planes)
    for row, column in np.ndindex(planes.shape[2:]):
        found[..., row, column] = planes[..., row, column] - _predicted(planes, row, column)
    return found.astype(np.uint8)


def pixels(found: Pixels) -> Pixels:
    """What `residuals` was given."""
    planes = np.zeros(found.shape, np.int16)
    for row, column in np.ndindex(found.shape[2:]):
        value = found[..., row, column] + _predicted(planes, row, column)
        planes[0, :, row, column] = value[0] & 255
        red = (value[1] + planes[0, :, row, column]) & 255
        planes[1, :, row, column] = red - planes[0, :, row, column]
        mean = (red + planes[0, :, row, column]) >> 1
        planes[2, :, row, column] = ((value[2] + mean) & 255) - mean
    green = planes[0]
    red = planes[1] + green
    return np.stack([red, green, planes[2] + ((red + green) >> 1)], 1).astype(np.uint8)


def _predicted(planes: NDArray[np.int16], row: int, column: int) -> NDArray[np.int16]:
    if not row or not column:
        if row:
            return planes[..., row - 1, column]
        return planes[..., row, column - 1] if column else np.zeros(planes.shape[:2], np.int16)
    left, above, corner = planes[..., row, column - 1], planes[..., row - 1, column], planes[..., row - 1, column - 1]
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.clip(left + above - corner, low, high)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def pack(sets: dict[str, tuple[Pixels, NDArray[np.int64]]]) -> bytes:
    """A part.  sets: images and classes by "train" and "test"."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as file:
        for name, (x, y) in sets.items():
            file.writestr(f"{name}-classes", y.astype(np.uint8).tobytes())
            for place in _chunks(len(x)):
                file.writestr(f"{name}-{place.start:06}", residuals(x[place]).tobytes())
    return stream.getvalue()


def unpack(paths: Sequence[Path], name: str) -> tuple[Pixels, Pixels]:
    """The images, (n, 3, 32, 32), and classes of "train" or "test" in these parts."""
    jobs = []
    for path in paths:
        with zipfile.ZipFile(path) as file:
            y = np.frombuffer(file.read(f"{name}-classes"), np.uint8)
        jobs += [(path, f"{name}-{place.start:06}", y[place]) for place in _chunks(len(y))]
    with ThreadPoolExecutor() as threads:
        x = list(threads.map(_unpacked, jobs))
    return np.concatenate(x), np.concatenate([y for _, _, y in jobs])


def _unpacked(job: tuple[Path, str, Pixels]) -> Pixels:
    path, name, y = job
    with zipfile.ZipFile(path) as file:
        return pixels(np.frombuffer(file.read(name), np.uint8).reshape(3, len(y), 32, 32))
