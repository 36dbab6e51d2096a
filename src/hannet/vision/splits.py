"""Images to train on, to validate on and to test on: of a named set or of a folder of pictures."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ..data import Images, images
from ..reporting.progress import OnProgress, ProgressEvent
from . import SettingError

VALIDATION_PART = 12  # one in so many training images validates: 5,000 of MNIST's 60,000


class DataSplits(NamedTuple):
    """What a classifier is trained, validated and tested on. name: of the set, or the folder."""

    name: str
    training: Images
    validation: Images
    test: Images


def dataset_name(data: str) -> str:
    """The name of a set, or of a folder of pictures without the folders that it is in."""
    return data if data in images.SETS or not Path(data).is_dir() else Path(data).resolve().name


def load_splits(
    data: str, seed: int, *, size: int | None, default_size: int, on_progress: OnProgress | None = None
) -> DataSplits:
    """Read the images of a set or of a folder of pictures, and choose by the seed which training images validate.

    size: pixels that the pictures of a folder become; None for default_size. Raises SettingError, or DataError for damaged data.
    """
    training, test = _read(data, size, default_size, on_progress)
    order = torch.randperm(len(training.y), generator=torch.Generator().manual_seed(seed))
    chosen, rest = order.tensor_split([len(order) // VALIDATION_PART])
    if not len(chosen):
        fault = f"{data} has {len(training.y)} training images, at least {VALIDATION_PART} are needed"
        raise SettingError(fault, "data")
    kept, validation = (replace(training, x=training.x[rows], y=training.y[rows]) for rows in (rest, chosen))
    return DataSplits(data, kept, validation, test)


def _read(data: str, size: int | None, default_size: int, on_progress: OnProgress | None) -> tuple[Images, Images]:
    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress(ProgressEvent("reading", done, total, "images"))

    if data not in images.SETS and Path(data).is_dir():
        pixels = size or default_size
        return images.folder(data, pixels, "train", report), images.folder(data, pixels, "test", report)
    if data not in images.SETS:
        raise SettingError(f"{data!r} is neither a folder nor one of {', '.join(images.SETS)}", "data")
    if size:
        raise SettingError(f"the images of {data} have a size: leave it out", "size")
    return images.load(data, "train", report), images.load(data, "test", report)
