"""Images to train on, to validate on and to test on: of a named set or of a folder of pictures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Images, images
from ..data.image_folder import Options
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


@dataclass(frozen=True)
class ReadOptions:
    """How the pictures of a folder are read.

    Args:
        size: Pixels that they become; None for default_size.
        default_size: Of the network.
        follow_links: Whether links that lead out of the folder count; else they are an error.
        skip_broken: The largest share of broken pictures that are left out.
        bytes_per_value: Memory that a channel of a pixel takes in a training.
    """

    size: int | None
    default_size: int
    follow_links: bool = False
    skip_broken: float = 0.0
    bytes_per_value: int = 1


def load_splits(data: str, seed: int, options: ReadOptions, on_progress: OnProgress | None = None) -> DataSplits:
    """Read the images of a set or of a folder of pictures; the seed chooses which training images validate, unless a folder says.

    Raises SettingError, or DataError for damaged data and for more than fits into memory, BrokenPicturesError for pictures.
    """
    training, test, validation = _read(data, options, on_progress)
    if validation:
        return DataSplits(data, training, validation, test)
    order = torch.randperm(len(training.y), generator=torch.Generator().manual_seed(seed), device="cpu")
    count = len(order) // VALIDATION_PART
    if not count:
        fault = f"{data} has {len(training.y)} training images, at least {VALIDATION_PART} are needed"
        raise SettingError(fault, "data")
    reorder_in_place(training.x, order)
    y = training.y[order]
    validation, training = (
        replace(training, x=training.x[rows], y=y[rows]) for rows in (slice(count), slice(count, None))
    )
    return DataSplits(data, training, validation, test)


def reorder_in_place(x: Tensor, order: Tensor) -> None:
    """x becomes x[order], on the CPU, with memory for one row more instead of for all: parts of it are then slices."""
    rows, source, done = x.numpy(), order.tolist(), bytearray(len(order))
    for start in range(len(source)):
        if done[start]:
            continue
        first, place = rows[start].copy(), start
        while source[place] != start:  # one cycle of the permutation
            rows[place] = rows[source[place]]
            done[place] = True
            place = source[place]
        rows[place] = first
        done[place] = True


def _read(data: str, options: ReadOptions, on_progress: OnProgress | None) -> tuple[Images, Images, Images | None]:
    """Images to train on, to test on, and if a folder has them, to validate on."""

    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress(ProgressEvent("reading", done, total, "images"))

    if data not in images.SETS and Path(data).is_dir():
        given = {name: getattr(options, name) for name in ("follow_links", "skip_broken", "bytes_per_value")}
        return images.read_parts(data, Options(options.size or options.default_size, **given, on_progress=report))
    if data not in images.SETS:
        hint = ": unpack it first" if Path(data).is_file() else ""
        raise SettingError(f"{data!r} is neither a folder nor one of {', '.join(images.SETS)}{hint}", "data")
    if options.size:
        raise SettingError(f"the images of {data} have a size: leave it out", "size")
    return images.load(data, "train", report), images.load(data, "test", report), None
