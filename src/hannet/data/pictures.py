"""One picture decoded: upright, RGB on white, a square of a size; of any depth, by one range for a whole data set."""

import math
import struct
import sys
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import DataError, PixelRange

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 100_000_000  # pixels of one picture: what unpacks to more is refused
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others would start programs, EPS Ghostscript
OUTLIERS = 0.001  # share of a picture's pixels at either end that do not count for its range: dead and hot ones
NARROW = 1 / 8  # of the range that the depth allows: below that, too few of 256 levels would be left

_UNREADABLE = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError, EOFError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)  # what Pillow's decoders say to rubbish
_ORIENTATION, _BITS, _SAMPLE_FORMAT, _SIGNED = 0x0112, 258, 339, 2  # tags of EXIF and TIFF
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1"}


class _RefusedError(ValueError):
    """A picture that is whole but cannot be used; the message ends a sentence."""


@dataclass(frozen=True)
class Depth:
    """Of a picture with more than 8 bits a channel: bits, 0 if they tell no largest value; the range without outliers."""

    bits: int
    low: float
    high: float


@dataclass(frozen=True)
class Opened:
    """A decoded picture.

    Args:
        values: Of Pillow where there are 8 bits a channel; else (h, w), or (h, w, 3 or 4) with alpha. None once they have gone.
        turn: How the camera was held, as EXIF numbers it.
        depth: If there are more than 8 bits.
        animated: Whether this is the first of several frames.
        halved: Whether it has 16 bits of which only the upper 8 were read.
    """

    values: "Image | NDArray[Any] | None"
    turn: int
    depth: Depth | None = None
    animated: bool = False
    halved: bool = False

    def render(self, size: int, pixel_range: PixelRange | None) -> Tensor:
        """(3, size, size), uint8. Raises ValueError for values that need a range and have none."""
        from PIL import Image, ImageOps

        values = self.values
        assert values is not None
        image = Image.fromarray(_scale(values, pixel_range)) if isinstance(values, np.ndarray) else values
        if 2 <= self.turn <= 8:
            image = image.transpose(Image.Transpose[_TURNS[self.turn - 2]])
        pixels = np.array(ImageOps.fit(_on_white(image), (size, size)))  # all pixels count: nothing aliases
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def clipped(self, pixel_range: PixelRange) -> bool:
        """Whether most of its values are outside a range."""
        if not isinstance(self.values, np.ndarray):
            return False
        low, high = pixel_range
        return bool(((self.values < low) | (self.values > high)).mean() > 0.5)


def picture(path: str | Path, size: int, pixel_range: PixelRange | None = None) -> Tensor:
    """One picture: upright, RGB on white, its middle square, size pixels wide, smoothly.  (3, size, size), uint8.

    pixel_range: what becomes black and white where there are more than 8 bits a channel, as `folder` learned it; None for the
    upper 8 of 16 bits. Raises ValueError for a size below 1, DataError for a file that is no picture, broken, or of more than
    100 million pixels.
    """
    require_size(size)
    with warnings.catch_warnings(action="ignore"):  # Pillow's: what matters of them is an error here
        return render(Path(path), open_picture(Path(path), size), size, pixel_range)


def require_size(size: int) -> None:
    """Raises ValueError for less than a pixel."""
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")


def render(path: Path, opened: Opened, size: int, pixel_range: PixelRange | None) -> Tensor:
    """`opened.render`, whose faults become a DataError that names the file."""
    try:
        return opened.render(size, pixel_range)
    except _UNREADABLE as error:
        raise _fault(path, error) from error


def open_picture(path: Path, size: int) -> Opened:
    """Decode a picture that will be of that size; a file of several, its first. Raises DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        return _open(path, size, FORMATS)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        if not _is_heif(path):
            raise DataError(f"{path}: not a picture of a known format, or broken") from error
        return _open_heif(path, size)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {LARGEST:,} pixels") from error
    except _UNREADABLE as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: Exception) -> DataError:
    if isinstance(error, _RefusedError):
        return DataError(f"{path}: {error}")
    reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return DataError(f"{path}: a broken picture{reason}")


@cache
def _known(formats: tuple[str, ...]) -> list[str]:
    """Those that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [name for name in formats if name in Image.OPEN]


def _open(path: Path, size: int, formats: tuple[str, ...]) -> Opened:
    from PIL import Image

    with Image.open(path, formats=_known(formats)) as image:
        _require_bounded(image)
        low_bytes = _other_byte(image)
        halved = not low_bytes and _loses_bits(image)
        image.draft(None, (2 * size, 2 * size))  # a JPEG may be read smaller, but never as small as it becomes
        image.load()
        turn, animated = _turn(image), _is_animated(path, image)
    if not low_bytes:
        return _with_depth(image, turn, animated, halved)
    with Image.open(path, formats=_known(formats)) as lower:
        lower.tile = low_bytes
        deep = np.asarray(image, np.uint16) << 8 | np.asarray(lower)
    return Opened(deep, turn, _measure(deep[..., :3], 16), animated)


def _require_bounded(image: "Image") -> None:
    """Refuse a picture of too many pixels before anything is unpacked."""
    from PIL.Image import DecompressionBombError

    if image.width * image.height > LARGEST:
        raise DecompressionBombError


def _other_byte(image: "Image") -> Any:
    """How to read the lower bytes of 16-bit colours, of which Pillow reads the upper ones: as if the byte order were the other."""
    tiles = getattr(image, "tile", None)
    if image.mode not in ("RGB", "RGBA") or image.format not in ("PNG", "TIFF") or not tiles:
        return None
    swapped = []
    for tile in tiles:
        first, *others = (tile.args,) if isinstance(tile.args, str) else tile.args
        order = first[-1:].replace("N", "L" if sys.byteorder == "little" else "B")
        if first[:-1] != f"{image.mode};16" or order not in ("L", "B"):
            return None
        other = first[:-1] + {"L": "B", "B": "L"}[order]
        swapped.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *others)))
    return swapped


def _loses_bits(image: "Image") -> bool:
    """Whether Pillow reads the upper 8 bits of more, and the others cannot be read."""
    tiles = getattr(image, "tile", None)
    if not tiles or image.mode.startswith(("I", "F")):
        return False
    first, *others = (tiles[0].args,) if not isinstance(tiles[0].args, tuple) else tiles[0].args
    if image.format == "PPM":
        return bool(others) and isinstance(others[0], int) and others[0] > 255
    return isinstance(first, str) and ";16" in first


def _with_depth(image: "Image", turn: int, animated: bool, halved: bool) -> Opened:
    if image.mode.startswith(("I", "F")):
        values = np.array(image)
        return Opened(values, turn, _measure(values, _bits(image)), animated)
    if image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        raise _RefusedError("its pixels may be below 0: convert it to unsigned or to 16-bit numbers")
    return Opened(image, turn, None, animated, halved)


def _measure(values: NDArray[Any], bits: int) -> Depth:
    if not np.isfinite(values).all():
        raise _RefusedError("some of its pixels are not finite numbers")
    low, high = np.quantile(values, [OUTLIERS, 1 - OUTLIERS], method="nearest").tolist()
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
        bits = 0
    return Depth(bits, low, high)


def _bits(image: "Image") -> int:
    """How many bits a pixel of a deep picture has: a TIFF may have 12."""
    bits = _tag(image, _BITS)
    return bits if image.mode.startswith("I;16") and 8 < bits < 16 else 16


def _tag(image: "Image", tag: int) -> int:
    """The first number of a TIFF's tag, 0 if there is none."""
    value = getattr(image, "tag_v2", {}).get(tag, 0)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else 0


def _turn(image: "Image") -> int:
    """How the camera was held, as EXIF numbers it; upright if that cannot be read."""
    with suppress(*_UNREADABLE):
        turn = image.getexif().get(_ORIENTATION, 1)
        return turn if isinstance(turn, int) else 1
    return 1


def _is_animated(path: Path, image: "Image") -> bool:
    """Whether there are more frames or pages; a telephone's JPEG may hold a second, small picture, which is none."""
    from PIL import Image

    if image.format in ("JPEG", "MPO"):
        return False
    with suppress(*_UNREADABLE):
        if image.format != "GIF":
            return bool(getattr(image, "is_animated", False))
        with Image.open(path, formats=("GIF",)) as again:  # it looks for a second frame, and loses the first
            return bool(getattr(again, "is_animated", False))
    return False


def _scale(values: NDArray[Any], pixel_range: PixelRange | None) -> NDArray[np.uint8]:
    """Deep values as 8 bits; of (h, w, 4), the alpha by its own depth."""
    colours = values[..., :3] if values.ndim == 3 else values
    if pixel_range is not None:
        low, high = pixel_range
        scaled = (np.clip(colours, low, high).astype(np.float64) - low) * (255 / (high - low))
        levels = np.rint(scaled).astype(np.uint8)
    elif colours.dtype.kind == "f" or colours.min() < 0 or colours.max() > 0xFFFF:
        raise _RefusedError(
            "its pixels are not whole numbers from 0 to 65,535, and nothing tells which are black and white"
        )
    else:
        levels = (colours >> 8).astype(np.uint8)
    return np.dstack([levels, (values[..., 3] >> 8).astype(np.uint8)]) if values.shape[2:] == (4,) else levels


def _on_white(image: "Image") -> "Image":
    """The image in RGB, where it is transparent on white."""
    from PIL import Image

    if image.mode == "LAB":
        raise _RefusedError("its colours are in LAB, which is not read: convert it to RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _is_heif(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        return head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS
    return False


def _open_heif(path: Path, size: int) -> Opened:
    """What telephones write, if the package that reads it is there."""
    try:
        import pillow_heif
    except ImportError as error:
        raise DataError(f"{path}: to read HEIC, pip install pillow-heif, or convert it to JPEG") from error
    pillow_heif.register_heif_opener()
    try:
        return _open(path, size, ("HEIF",))
    except _UNREADABLE as error:
        raise _fault(path, error) from error


def learn_range(depths: Sequence[Depth]) -> PixelRange | None:
    """What becomes black and white: the whole range of the depth, unless pictures use less than an eighth of it; then what they use.

    None for the upper 8 of 16 bits, and without deep pictures.
    """
    if not depths:
        return None
    low, high = min(one.low for one in depths), max(one.high for one in depths)
    most = float(2 ** max(one.bits for one in depths) - 1)
    if not all(one.bits for one in depths):
        most = 1.0 if low >= 0 and high <= 1 else math.inf
    if high - low >= NARROW * most:
        return None if most == 0xFFFF else (0.0, most)
    return float(low), float(high if high > low else low + 1)


def describe_range(depths: Sequence[Depth], shallow: int, pixel_range: PixelRange | None) -> str:
    """How deep pictures are read; shallow: how many of 8 bits are beside them."""
    kinds = sorted({one.bits for one in depths})
    depth = f"{' and '.join(map(str, kinds))} bits a channel" if all(kinds) else "numbers without a largest value"
    how = "their upper 8 bits count"
    if pixel_range is not None:
        how = f"{pixel_range[0]:,g} to {pixel_range[1]:,g} become black to white, in predictions too"
    beside = f"; {shallow:,} of 8 bits beside them stay as they are" if shallow else ""
    return f"{len(depths):,} pictures with {depth}: {how}{beside}"
