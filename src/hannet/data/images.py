"""Images in classes: sets that have a name, a folder of pictures, a user's own arrays from an .npz file."""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import DataError, Images, ProgressCallback, binary_formats, idx
from .binary_formats import UNREADABLE
from .catalog import ImageSource, Part, image_sources
from .download import File, find, is_published, where
from .image_folder import folder, read_parts
from .memory import require_free
from .pictures import picture

SETS = image_sources()

__all__ = ["SETS", "ImageSource", "Images", "Part", "folder", "load", "mnist", "picture", "read_parts", "stored"]


def load(name: str, part: Part = "train", on_progress: ProgressCallback | None = None) -> Images:
    """A named set's images to train on or to test on, as its publishers give them, downloaded at first use.

    on_progress: called where reading takes long. notes: which files of HANNET_DATA are not the published ones. Raises
    ValueError for an unknown name or part, DataError if a file cannot be had or is damaged.

    >>> list(SETS)
    ['mnist', 'cifar10', 'cifar100', 'stl10', 'downsampled-imagenet']
    """
    if name not in SETS:
        raise ValueError(f"name must be one of {', '.join(SETS)}, got {name!r}")
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", got {part!r}')
    readers: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
        "mnist": idx.labelled,
        "cifar10": binary_formats.records,
        "cifar100": partial(binary_formats.records, labels=2),
        "stl10": binary_formats.columns,
        "downsampled-imagenet": partial(binary_formats.batches, on_progress=on_progress),
    }
    source = SETS[name]
    files, count = source.part(part)
    paths = [find(file) for file in files]
    x, y = readers[name](paths, count, source.size, len(source.classes))
    notes = [note for file, path in zip(files, paths, strict=True) for note in _notes(file, path)]
    return Images(x, y, source.classes, tuple(notes))


def mnist(part: Part = "train") -> Images:
    """MNIST's 60,000 training or 10,000 test images, (1, 28, 28): load("mnist", part)."""
    return load("mnist", part)


def _notes(file: File, path: Path) -> list[str]:
    """A note on a file whose form alone was checked, if it is not the published one."""
    by_form = file.archive and (file.archive.by_hand or where(file) == "HANNET_DATA")
    return [f"{file.name} differs from the published file"] if by_form and not is_published(file, path) else []


def stored(path: Path) -> tuple[Tensor, Tensor]:
    """The arrays x and y of an .npz file.  x: (n, ...), float32 or float64, in [0, 1]; uint8 is divided by 255. y: (n,), int64.

    Raises DataError for anything else, also for numbers that were divided by 255 twice, or not yet.
    """
    try:
        _require_memory(path)
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
            if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
                raise TypeError  # what is no array in the file comes as bytes
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path}: not an .npz file with the arrays x and y, or damaged") from error
    if x.dtype not in (np.uint8, np.float32, np.float64) or x.ndim < 2 or not x.size:
        raise DataError(f"{path}: x must be (n, ...), uint8, float32 or float64, got {x.shape}, {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise DataError(f"{path}: y must be {len(x)} whole numbers, one for each x, got {y.shape}, {y.dtype}")
    if int(y.min()) < 0 or int(y.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: y must be classes from 0 on, got {y.min()} to {y.max()}")
    return torch.from_numpy(np.ascontiguousarray(_from_0_to_1(path, x))), torch.from_numpy(y.astype(np.int64))


def _require_memory(path: Path) -> None:
    """Refuse arrays that do not fit into memory, by the sizes that the file declares; numpy reads no more than these."""
    with zipfile.ZipFile(path) as packed:
        sizes = {name: packed.getinfo(f"{name}.npy").file_size for name in ("x", "y")}
    require_free(sum(sizes.values()), f"{path}: its arrays")


def _from_0_to_1(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    """Numbers where 1 is white. Raises DataError if they can be no such numbers."""
    largest = x.max()
    if x.dtype == np.uint8:
        if largest == 1:
            raise DataError(f"{path}: x is uint8, where 255 is white, but holds only 0 and 1: multiply it by 255")
        require_free(4 * x.size, f"{path}: its images as numbers from 0 to 1")
        x = x.astype(np.float32)
        x /= 255
    elif not (x.min() >= 0 and largest <= 1):  # not a number is neither
        raise DataError(f"{path}: x must be uint8, or numbers from 0 to 1")
    elif 0 < largest <= 1 / 255:
        raise DataError(f"{path}: x ends at {largest:.2g}, but 1 is white: it was divided by 255 twice")
    return x
