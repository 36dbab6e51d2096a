"""Classification of pictures with a network that `hannet train images` saved."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import models
from ..data import IMAGE_SUFFIXES, DataError, images
from . import SettingError
from .preprocessing import FILE, Preprocessing, grey, probabilities

TOP = 3  # classes to report for a picture
READ_BATCH = 256  # images in memory


class Classified(NamedTuple):
    """A picture and its most probable classes."""

    picture: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def is_classifier(model: Path) -> bool:
    """Whether a folder holds a classifier of images, not an estimator for tables."""
    return (model / FILE).exists()


def classify(model: Path, inputs: Sequence[Path]) -> tuple[list[Classified], list[str]]:
    """The most probable classes of pictures, and of folders of pictures, by a saved network; and a sentence for each that cannot be read.

    Raises SettingError if a folder in `inputs` holds no pictures, ModelFolderError if the network is missing or damaged.
    """
    network, preprocessing = _load(model)
    classified: list[Classified] = []
    faults: list[str] = []
    paths = _find_pictures(inputs)
    for start in range(0, len(paths), READ_BATCH):
        known, broken = _classify_batch(network, preprocessing, paths[start : start + READ_BATCH])
        classified += known
        faults += broken
    return classified, faults


def _load(model: Path) -> tuple[nn.Module, Preprocessing]:
    preprocessing = Preprocessing.load(model)
    network = models.load(model).float()
    shape = (1, preprocessing.channels, preprocessing.size, preprocessing.size)
    try:
        outputs = probabilities(network, preprocessing, torch.zeros(shape, dtype=torch.uint8))
    except (ValueError, RuntimeError, TypeError) as error:
        raise models.ModelFolderError(f"{model / FILE}: does not fit the network beside it ({error})") from error
    if outputs.shape[1:] != (len(preprocessing.classes),):
        raise models.ModelFolderError(
            f"{model / FILE}: names {len(preprocessing.classes)} classes, but the network beside it has {outputs.shape[1]}"
        )
    return network, preprocessing


def _find_pictures(inputs: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named."""
    found: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not inside:
            folders = any(inner.is_dir() for inner in path.iterdir())
            hint = f", only folders: name them, such as {path}/*" if folders else ""
            raise SettingError(f"{path} holds no pictures{hint}", "inputs")
        found += inside
    return found


def _classify_batch(
    network: nn.Module, preprocessing: Preprocessing, paths: Sequence[Path]
) -> tuple[list[Classified], list[str]]:
    pictures: list[Tensor] = []
    known, faults = [], []
    for path in paths:
        try:
            pictures.append(images.picture(path, preprocessing.size))
            known.append(path)
        except DataError as error:
            faults.append(str(error))
    if not pictures:
        return [], faults
    x = torch.stack(pictures)
    outputs = probabilities(network, preprocessing, x if preprocessing.channels == 3 else grey(x))
    best = outputs.topk(min(TOP, outputs.shape[1]), dim=1)
    names = preprocessing.classes
    rows = zip(known, best.indices.tolist(), best.values.tolist(), strict=True)
    return [Classified(path, tuple(names[i] for i in places), tuple(p)) for path, places, p in rows], faults


def to_csv(classified: Sequence[Classified]) -> str:
    """A line for each picture: its name, and class and probability by rank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max((len(row.classes) for row in classified), default=1)
    heads = (f"{name}_{rank}" for rank in range(1, count + 1) for name in ("class", "probability"))
    writer.writerow(["picture", *heads])
    for row in classified:
        pairs = zip(row.classes, row.probabilities, strict=True)
        writer.writerow([row.picture, *(cell for pair in pairs for cell in pair)])
    return text.getvalue()
