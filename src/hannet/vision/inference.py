"""Classification of pictures with a network that `hannet train images` saved."""

import csv
import io
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import models
from ..data import DataError
from ..data.picture_files import list_pictures
from ..data.pictures import open_picture, render
from ..reporting.text import without_formula
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


class Classification(NamedTuple):
    """Pictures with their classes, a sentence for each that cannot be read, and what to say beside them."""

    pictures: list[Classified]
    faults: list[str]
    notes: list[str]


def classify(model: Path, inputs: Sequence[Path]) -> Classification:
    """The most probable classes of pictures, and of folders of pictures, by a saved network.

    Raises SettingError if a folder in `inputs` holds no pictures, ModelFolderError if the network is missing or damaged.
    """
    network, preprocessing = _load(model)
    paths, notes = _find_pictures(inputs)
    batches = _Batches(network, preprocessing)
    for start in range(0, len(paths), READ_BATCH):
        batches.classify(paths[start : start + READ_BATCH])
    return Classification(batches.classified, batches.faults, [*notes, *batches.notes()])


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


def _find_pictures(inputs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files named, and those in the folders named; notes on what was passed over there."""
    found: list[Path] = []
    notes: list[str] = []
    for path in inputs:
        if not path.is_dir():
            found.append(path)
            continue
        inside, unseen, passed = list_pictures(path)
        if not inside:
            hint = f", only folders: name them, such as {path}/*" if unseen else ""
            raise SettingError(f"{path} holds no pictures{hint}", "inputs")
        found += inside
        folders = [f"{unseen:,} folder{'s' * (unseen > 1)} inside, not looked into: name them too"] if unseen else []
        notes += [f"{path}: {note}" for note in (*passed.notes(), *folders)]
    return found, notes


class _Batches:
    """Pictures classified a batch at a time, and what was seen of them."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing):
        self.network, self.preprocessing = network, preprocessing
        self.classified: list[Classified] = []
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()

    def classify(self, paths: Sequence[Path]) -> None:
        """Classify pictures that fit into memory together."""
        pictures: list[Tensor] = []
        known: list[Path] = []
        with warnings.catch_warnings(action="ignore"):  # Pillow's: what matters of them is an error here
            for path in paths:
                try:
                    pictures.append(self._read(path))
                    known.append(path)
                except DataError as error:
                    self.faults.append(str(error))
        if not pictures:
            return
        x = torch.stack(pictures)
        wanted = self.preprocessing
        outputs = probabilities(self.network, wanted, x if wanted.channels == 3 else grey(x))
        best = outputs.topk(min(TOP, outputs.shape[1]), dim=1)
        for path, places, shares in zip(known, best.indices.tolist(), best.values.tolist(), strict=True):
            self.classified.append(Classified(path, tuple(wanted.classes[i] for i in places), tuple(shares)))

    def _read(self, path: Path) -> Tensor:
        size, wanted = self.preprocessing.size, self.preprocessing.pixel_range
        opened = open_picture(path, size)
        pixels = render(path, opened, size, wanted)
        said = {
            "with several frames or pages: the first counts": opened.animated,
            "of 8 bits a channel, taken as they are, though deeper pictures trained the model": wanted
            and not opened.depth,
            "mostly darker or lighter than all that trained the model": wanted and opened.clipped(wanted),
            "of which only the upper 8 bits a channel count, as in training": opened.depth and not wanted,
        }
        self.counts.update(note for note, true in said.items() if true)
        return pixels

    def notes(self) -> list[str]:
        """What to say beside the classes."""
        return [f"{count:,} {note}" for note, count in self.counts.items()]


def to_csv(classified: Sequence[Classified], *, safe: bool = False) -> str:
    """A line for each picture: its name, and class and probability by rank; safe: no cell is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max((len(row.classes) for row in classified), default=1)
    heads = (f"{name}_{rank}" for rank in range(1, count + 1) for name in ("class", "probability"))
    writer.writerow(["picture", *heads])
    for row in classified:
        pairs = zip(row.classes, row.probabilities, strict=True)
        cells = [str(row.picture), *(cell for pair in pairs for cell in pair)]
        writer.writerow([without_formula(cell) if safe and isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()
