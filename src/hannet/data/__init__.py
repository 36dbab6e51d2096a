"""The paper's data, made by formula or read from the files of their publishers, and a user's own images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
ProgressCallback = Callable[[int, int], None]  # called with images done and images to do


class DataError(RuntimeError):
    """A data set that is missing, cut short or not what its publisher wrote; the message is one sentence for the user."""


@dataclass(frozen=True)
class Images:
    """x: (n, channels, height, width), uint8; y: (n,), int64, positions in classes; notes: what to say beside a result."""

    x: "Tensor"
    y: "Tensor"
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reading a file or folder in this block raises DataError where the system refuses it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
