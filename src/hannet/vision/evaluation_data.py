"""The network and the points that `hannet attack` and `hannet certify` are about."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data import Images

Data = Annotated[
    str | None,
    typer.Option(
        metavar="SET|FOLDER|FILE.npz",
        help="Test images of mnist, cifar10, ..., or of a folder of pictures; or arrays x and y: uint8, or 0 to 1."
        "  [default: those of its training, or mnist]",
    ),
]


def load_network(folder: Path) -> "nn.Module":
    """The network, from pixels from 0 to 1: with the scaling of its training, if that is kept beside it."""
    from .. import models
    from .preprocessing import FILE, Preprocessing

    net = models.load(folder)
    return Preprocessing.load(folder).from_pixels(net) if (folder / FILE).exists() else net


def trained_on(folder: Path) -> str:
    """The data that the report beside a network names; mnist if there is none."""
    try:
        return str(json.loads((folder / "report.json").read_bytes())["data"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "mnist"


def load_points(folder: Path, data: str, count: int | None, *, exactly: bool) -> "tuple[Tensor, Tensor, Tensor]":
    """x, from 0 to 1, y, and which of all points they are."""
    import torch

    from ..data import images

    if data.endswith(".npz"):
        x, y = images.stored(Path(data))
    else:
        held = _pictures(folder, data) if data not in images.SETS and Path(data).is_dir() else _named(data)
        _require_classes(folder, data, held)
        x, y = held.x.float() / 255, held.y
    if exactly and count and count > len(y):
        raise typer.BadParameter(f"there are only {len(y):,}", param_hint="--points")
    rows = torch.arange(len(y))
    if count and count < len(y):
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return x[rows], y[rows], rows


def _named(data: str) -> "Images":
    from ..data import images

    if data not in images.SETS:
        known = ", ".join(images.SETS)
        raise typer.BadParameter(
            f"{data!r} is neither one of {known} nor a folder nor the name of an .npz file", param_hint="--data"
        )
    return images.load(data, "test")


def _pictures(folder: Path, data: str) -> "Images":
    """The pictures that test, in the size and with the classes that the network was trained on."""
    from ..data import images
    from .preprocessing import FILE, Preprocessing, grey

    if not (folder / FILE).exists():
        told = f"pictures need the {FILE} that `hannet train images` writes, and {folder} has none: give an .npz file"
        raise typer.BadParameter(told, param_hint="--data")
    seen = Preprocessing.load(folder)
    held = images.folder(data, seen.size, "test")
    return held if seen.channels == 3 else replace(held, x=grey(held.x))


def _require_classes(folder: Path, data: str, held: "Images") -> None:
    from .preprocessing import FILE, Preprocessing

    if (folder / FILE).exists() and (seen := Preprocessing.load(folder).classes) != held.classes:
        told = f"{data} has the classes {_some(held.classes)}, but {folder} tells {_some(seen)} apart"
        raise typer.BadParameter(told, param_hint="--data")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def match_input_shape(net: "nn.Module", x: "Tensor", y: "Tensor", folder: Path) -> "Tensor":
    """x as the network takes it: in its dtype, as images or as vectors."""
    import torch

    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), x.dtype)
    if dtype not in (torch.float32, torch.float64):
        raise typer.BadParameter(f"{folder} computes in {dtype}, but float32 or float64 is needed")
    fault = f"does not take x of {' x '.join(map(str, x.shape[1:]))}, as it is or as a vector of {x[0].numel():,}"
    for inputs in (x.to(dtype), x.to(dtype).flatten(1)):
        try:
            with torch.no_grad():
                logits = net(inputs[:1])
        except (RuntimeError, ValueError):
            continue
        if logits.ndim == 2 and int(y.max()) < logits.shape[1] >= 2:
            return inputs
        fault = f"gives {tuple(logits.shape[1:])} for a point, and y, up to {int(y.max())}, needs a logit for each class, two or more"
    raise typer.BadParameter(f"{folder} {fault}", param_hint="--data")
