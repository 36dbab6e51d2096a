"""The paper's data, made by formula or read from the files of their publishers, and a user's own images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif"}
)  # of pictures that take another package to read, and are not passed over
PixelRange = tuple[float, float]  # what becomes black and white of pictures of more than 8 bits a channel
ProgressCallback = Callable[[int, int], None]  # called with images done and images to do


class DataError(RuntimeError):
    """A data set that is missing, cut short or not what its publisher wrote; the message is one sentence for the user."""


class BrokenPicturesError(DataError):
    """Pictures that cannot be read; faults: a sentence for each."""

    def __init__(self, message: str, faults: tuple[str, ...]):
        super().__init__(message)
        self.faults = faults


@dataclass(frozen=True)
class Images:
    """x: (n, channels, height, width), uint8; y: (n,), int64, positions in classes; notes: what to say beside a result.

    broken: a sentence for each picture that was left out. pixel_range: None for the upper 8 of 16 bits.
    """

    x: "Tensor"
    y: "Tensor"
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    pixel_range: PixelRange | None = None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reading a file or folder in this block raises DataError where the system refuses it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
