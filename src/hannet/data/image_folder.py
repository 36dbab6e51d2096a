"""A user's pictures: folders of them, one for each class, and single ones."""

import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import IMAGE_SUFFIXES, DataError, Images, ProgressCallback, reading
from .catalog import Part

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 100_000_000  # pixels of one picture: what unpacks to more is refused

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others would start programs, EPS Ghostscript
_PARTS = ("train", "test", "val")
_HELD_OUT = 5  # one in so many pictures of a class tests
_SEED = 0
_UNREADABLE = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError, EOFError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)  # what Pillow's decoders say to rubbish


class _Scan(NamedTuple):
    """Pictures by class, and how many files and links were passed over."""

    classes: dict[str, list[Path]]
    others: int
    links: int


def folder(path: str | Path, size: int, part: Part = "train", on_progress: ProgressCallback | None = None) -> Images:
    """The pictures of a folder of class folders, (3, size, size) as `picture` makes them; classes are in the order of names.

    Either PATH/train/CLASS/*.jpg with PATH/test or PATH/val beside it, or PATH/CLASS/*.jpg, of which one in five pictures of
    each class, always the same ones, tests. Hidden files are passed over; so are other files, folders inside a class, and
    links out of the folder, which notes count. Raises ValueError for a size below 1 or an unknown part, DataError for fewer
    than two classes, an empty class, or pictures that are broken.
    """
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", got {part!r}')
    _require_size(size)
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}")
    scan = _find_pictures(path, part)
    x = _decode(path, [file for files in scan.classes.values() for file in files], size, on_progress)
    y = torch.tensor([label for label, files in enumerate(scan.classes.values()) for _ in files], device="cpu")
    left_out = {"that is no picture": scan.others, "that leads out of the folder": scan.links}
    notes = (f"{count:,} left out {what}" for what, count in left_out.items() if count)
    return Images(x, y, tuple(scan.classes), tuple(notes))


def picture(path: str | Path, size: int) -> Tensor:
    """One picture: upright, RGB on white, its middle square, size pixels wide, smoothly.  (3, size, size), uint8.

    Raises ValueError for a size below 1, DataError for a file that is no picture, broken, or of more than 100 million pixels.
    """
    _require_size(size)
    with warnings.catch_warnings(action="ignore"):  # Pillow's: what matters of them is an error here
        return _picture(Path(path), size)


def _require_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")


def _find_pictures(path: Path, part: Part) -> _Scan:
    """The pictures of a part in either layout."""
    train, test = path / "train", next((path / name for name in _PARTS[1:] if (path / name).is_dir()), None)
    if train.is_dir() and test:
        return _find_in_parts(path, train, test, part)
    scan = _scan(path, path)
    if scan.classes.get("train") == [] and any(entry.is_dir() for entry in _visible(train)):
        raise DataError(f"{path}: has a folder train, but neither test nor val beside it")
    _require_classes(path, scan)
    for name, files in scan.classes.items():
        if len(files) < 2:
            count = f"{len(files) or 'no'} picture{'s' * (not files)}"
            raise DataError(f"{path}: the class {name} has {count}, but needs two")
    return scan._replace(classes={name: _split(files)[part == "test"] for name, files in scan.classes.items()})


def _find_in_parts(path: Path, train: Path, test: Path, part: Part) -> _Scan:
    """The pictures of a part where each has a folder, with the same classes."""
    scans = {"train": _scan(path, train), "test": _scan(path, test)}
    _require_classes(train, scans["train"])
    classes, tested = scans["train"].classes, scans["test"].classes
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"{train}: the class {empty[0]} has no pictures")
    if unknown := [name for name in tested if name not in classes]:
        raise DataError(f"{test}: the class {unknown[0]} is not one of those in {train}")
    if missing := [name for name in classes if not tested.get(name)]:
        raise DataError(f"{test}: the class {missing[0]} has no pictures")
    return scans[part]


def _require_classes(path: Path, scan: _Scan) -> None:
    if len(scan.classes) < 2:
        what = f"only one class, {next(iter(scan.classes))}" if scan.classes else "no folders of classes"
        raise DataError(f"{path}: holds {what}, but a classifier needs at least two folders of pictures")


def _scan(root: Path, path: Path) -> _Scan:
    """What the class folders below a path hold; links may lead to anything below root."""
    top = Path(os.path.realpath(root))
    others = links = 0
    classes = {}
    for entry in _visible(path):
        if not Path(os.path.realpath(entry)).is_relative_to(top):
            links += 1
        elif not entry.is_dir():
            others += 1
        elif entry.name.encode(errors="replace").decode() != entry.name:  # bytes that are no text
            raise DataError(f"{path}: the name of a class must be text in UTF-8, got {entry.name!r}")
        else:
            entries = _visible(entry)
            inside = [file for file in entries if Path(os.path.realpath(file)).is_relative_to(top)]
            classes[entry.name] = [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
            links += len(entries) - len(inside)
            others += len(inside) - len(classes[entry.name])
    return _Scan(classes, others, links)


def _visible(path: Path) -> list[Path]:
    with reading(path):
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))


def _split(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that train, those that test."""
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(_SEED), device="cpu").tolist()
    test = set(order[: max(1, len(files) // _HELD_OUT)])
    return [file for position, file in enumerate(files) if position not in test], [files[i] for i in sorted(test)]


def _decode(path: Path, files: Sequence[Path], size: int, on_progress: ProgressCallback | None) -> Tensor:
    try:
        x = torch.empty(len(files), 3, size, size, dtype=torch.uint8, device="cpu")
    except RuntimeError as error:  # the allocator's
        raise DataError(f"{path}: {len(files):,} pictures of {size} x {size} do not fit into memory") from error

    def decode(position: int) -> DataError | None:
        try:
            x[position] = _picture(files[position], size)
        except DataError as error:
            return error
        return None

    broken = []
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        try:
            for done, fault in enumerate(pool.map(decode, range(len(files))), 1):
                broken += [fault] if fault else []
                if on_progress:
                    on_progress(done, len(files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if broken:
        more = f", and {len(broken) - 1:,} more like it" if len(broken) > 1 else ""
        raise DataError(f"{broken[0]}{more}") from broken[0]
    return x


def _picture(path: Path, size: int) -> Tensor:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=_FORMATS) as opened:
            _require_bounded(opened)
            opened.draft(None, (2 * size, 2 * size))  # a JPEG may be read smaller, but never as small as it becomes
            pixels = np.array(ImageOps.fit(_upright(opened), (size, size)))  # all pixels count: nothing aliases
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture of a known format, or broken") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {LARGEST:,} pixels") from error
    except _UNREADABLE as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise DataError(f"{path}: a broken picture{reason}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _require_bounded(image: "Image") -> None:
    """Refuse a picture of too many pixels before anything is unpacked."""
    from PIL.Image import DecompressionBombError

    if image.width * image.height > LARGEST:
        raise DecompressionBombError


def _upright(image: "Image") -> "Image":
    """The image as its EXIF data turns it, in RGB, where it is transparent on white."""
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(image.mode)
        image = Image.fromarray((values >> 8).astype(np.uint8))  # the upper 8 of 16 bits
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
