"""The part of `hannet predict` that classifies pictures."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ..cli.console import exit_with_error, stdout_console

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .preprocessing import Preprocessing

FIRST = 3  # classes to show of a picture
AT_ONCE = 256  # pictures in memory


class Classified(NamedTuple):
    """A picture and its most probable classes."""

    picture: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def is_classifier(model: Path) -> bool:
    """Whether a folder holds a classifier of images, not an estimator for tables."""
    from .preprocessing import FILE

    return (model / FILE).exists()


def classify(model: Path, inputs: Sequence[Path], out: Path | None, *, as_json: bool) -> None:
    """Print the most probable classes of every picture, and write all of them as CSV to out, if it is given.

    A broken picture is named at the end, and the command fails; the others are classified all the same.
    """
    from ..storage.files import write_atomic

    network, preprocessing = _loaded(model)
    found: list[Classified] = []
    faults: list[str] = []
    pictures = _pictures(inputs)
    for start in range(0, len(pictures), AT_ONCE):
        known, broken = _classified(network, preprocessing, pictures[start : start + AT_ONCE])
        found += known
        faults += broken
    if out:
        write_atomic(
            out, _csv(found).encode(errors="surrogateescape")
        )  # names of files as they are, also if they are no text
    if as_json:
        rows = [
            {"picture": str(row.picture)} | dict(zip(("classes", "probabilities"), row[1:], strict=True))
            for row in found
        ]
        print(json.dumps({"pictures": rows, "faults": faults}, allow_nan=False))
    elif found:
        _show(found)
        if out:
            print(f"{len(found):,} picture{'s' * (len(found) > 1)} classified. Saved: {out}")
    if faults:
        more = f", and {len(faults) - 1:,} more" if len(faults) > 1 else ""
        exit_with_error(f"{faults[0]}{more}", 1)


def _loaded(model: Path) -> "tuple[nn.Module, Preprocessing]":
    from .. import models
    from .preprocessing import FILE, Preprocessing, probabilities

    preprocessing = Preprocessing.load(model)
    network = models.load(model).float()
    try:
        outputs = probabilities(network, preprocessing, _blank(preprocessing))
    except (ValueError, RuntimeError, TypeError) as error:
        raise models.ModelFolderError(f"{model / FILE}: does not fit the network beside it ({error})") from error
    if outputs.shape[1:] != (len(preprocessing.classes),):
        raise models.ModelFolderError(
            f"{model / FILE}: names {len(preprocessing.classes)} classes, but the network beside it has {outputs.shape[1]}"
        )
    return network, preprocessing


def _blank(preprocessing: "Preprocessing") -> "Tensor":
    import torch

    return torch.zeros(1, preprocessing.channels, preprocessing.size, preprocessing.size, dtype=torch.uint8)


def _pictures(inputs: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named."""
    from ..data.image_folder import SUFFIXES

    found: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            folders = any(inner.is_dir() for inner in path.iterdir())
            hint = f", only folders: name them, such as {path}/*" if folders else ""
            raise typer.BadParameter(f"{path} holds no pictures{hint}", param_hint="inputs")
        found += inside
    return found


def _classified(
    network: "nn.Module", preprocessing: "Preprocessing", paths: Sequence[Path]
) -> tuple[list[Classified], list[str]]:
    """What can be read of some pictures, and what is wrong with the others."""
    import torch

    from ..data import DataError, images
    from .preprocessing import grey, probabilities

    read, known, faults = [], [], []
    for path in paths:
        try:
            read.append(images.picture(path, preprocessing.size))
            known.append(path)
        except DataError as error:
            faults.append(str(error))
    if not read:
        return [], faults
    x = torch.stack(read)
    shares = probabilities(network, preprocessing, x if preprocessing.channels == 3 else grey(x))
    best = shares.topk(min(FIRST, shares.shape[1]), dim=1)
    names = preprocessing.classes
    rows = zip(known, best.indices.tolist(), best.values.tolist(), strict=True)
    return [Classified(path, tuple(names[i] for i in where), tuple(values)) for path, where, values in rows], faults


def _csv(found: Sequence[Classified]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max((len(row.classes) for row in found), default=1)
    writer.writerow(
        ["picture", *(name for rank in range(1, count + 1) for name in (f"class_{rank}", f"probability_{rank}"))]
    )
    for row in found:
        pairs: list[Any] = [cell for pair in zip(row.classes, row.probabilities, strict=True) for cell in pair]
        writer.writerow([row.picture, *pairs])
    return text.getvalue()


def _show(found: Sequence[Classified]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("picture", "class", "probability", "or else", box=SIMPLE_HEAD, pad_edge=False)
    for row in found:
        others = ", ".join(f"{name} {p:.1%}" for name, p in list(zip(row.classes, row.probabilities, strict=True))[1:])
        name = os.fsencode(row.picture).decode(errors="replace")
        table.add_row(name, row.classes[0], f"{row.probabilities[0]:.1%}", others)
    stdout_console().print(table)
