"""The network and the points that attacks and certificates are measured on, and the files that hold what they find."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..data import BrokenPicturesError, DataError, Images, images
from . import SettingError
from .preprocessing import FILE, Preprocessing, grey

if TYPE_CHECKING:
    from ..attacks import Adversaries


def load_network(folder: Path) -> nn.Module:
    """The network on pixels from 0 to 1: with the scaling of its training if that was saved with it."""
    net = models.load(folder)
    return Preprocessing.load(folder).from_pixels(net) if (folder / FILE).exists() else net


def trained_on(folder: Path) -> str:
    """The data that the report beside a network names; mnist if there is none."""
    try:
        return str(json.loads((folder / "report.json").read_bytes())["data"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "mnist"


class Points(NamedTuple):
    """x: from 0 to 1; y; rows: which of all points they are; notes: what to say beside a result."""

    x: Tensor
    y: Tensor
    rows: Tensor
    notes: tuple[str, ...] = ()


def load_points(folder: Path, data: str, count: int | None, *, exactly: bool, skip_broken: float = 0.0) -> Points:
    """Points to measure a network on.

    Args:
        folder: Of the network.
        data: A set's name, a folder of pictures, which become what the network was trained on, or an .npz file.
        count: How many to choose at random; None for all.
        exactly: That many, no fewer.
        skip_broken: The largest share of a folder's pictures that are left out because they cannot be read.

    Returns:
        The points.

    Raises:
        SettingError: The data do not fit the network, or are too few.
        DataError: The data are damaged.
    """
    preprocessing = Preprocessing.load(folder) if (folder / FILE).exists() else None
    notes: tuple[str, ...] = ()
    if data.endswith(".npz"):
        x, y = images.stored(Path(data))
        if preprocessing:
            _require_layout(x, preprocessing, data)
    else:
        named = data in images.SETS or not Path(data).is_dir()
        test = _load_set(data) if named else _load_pictures(folder, data, preprocessing, skip_broken)
        if preprocessing and preprocessing.classes != test.classes:
            known, found = _abbreviate(preprocessing.classes), _abbreviate(test.classes)
            raise SettingError(f"{data} has the classes {found}, but {folder} was trained on {known}", "data")
        x, y, notes = test.x.float() / 255, test.y, test.notes
    if exactly and count and count > len(y):
        raise SettingError(f"there are only {len(y):,}", "points")
    rows = torch.arange(len(y))
    if count and count < len(y):
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return Points(x[rows], y[rows], rows, notes)


def _require_layout(x: Tensor, wanted: Preprocessing, data: str) -> None:
    """Raises SettingError for images whose channels or sizes stand elsewhere than in training: they would be taken for noise."""
    channels, size = wanted.channels, wanted.size
    expected = (channels, size, size)
    shapes = [expected, (math.prod(expected),)] + ([(size, size), (size, size, 1)] if channels == 1 else [])
    if (found := tuple(x.shape[1:])) in shapes:
        return
    fault = f"{data}: x is {_by(('n', *found))}, but the network was trained on images of {_by(('n', *expected))}"
    if found == (size, size, channels):
        fault += ": their channels come first, x.transpose(0, 3, 1, 2)"
    raise SettingError(fault, "data")


def _by(shape: Sequence[int | str]) -> str:
    return " x ".join(map(str, shape))


def _load_set(data: str) -> Images:
    if data not in images.SETS:
        known = ", ".join(images.SETS)
        raise SettingError(f"{data!r} is neither one of {known} nor a folder nor the name of an .npz file", "data")
    return images.load(data, "test")


def _load_pictures(folder: Path, data: str, preprocessing: Preprocessing | None, skip_broken: float) -> Images:
    """The test pictures of a folder, in the size and number of channels that the network was trained on."""
    if not preprocessing:
        fault = f"pictures need the {FILE} that `hannet train images` writes, and {folder} has none: give an .npz file"
        raise SettingError(fault, "data")
    wanted = preprocessing.pixel_range
    # Links are followed, as they may have been in training.
    how: dict[str, Any] = {"follow_links": True, "pixel_range": wanted, "skip_broken": skip_broken}
    try:
        test = images.folder(data, preprocessing.size, "test", **how)
    except BrokenPicturesError as error:
        raise DataError(f"{error}{'' if skip_broken else '; --skip-broken leaves them out'}") from error
    return test if preprocessing.channels == 3 else replace(test, x=grey(test.x))


def _abbreviate(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def match_input_shape(net: nn.Module, x: Tensor, y: Tensor, folder: Path) -> Tensor:
    """x as the network takes it: in its dtype, as images or as vectors. Raises SettingError if it takes neither."""
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), x.dtype)
    if dtype not in (torch.float32, torch.float64):
        raise SettingError(f"{folder} computes in {dtype}, but float32 or float64 is needed")
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
    raise SettingError(f"{folder} {fault}", "data")


def adversaries_to_npz(found: "Adversaries", x: Tensor, y: Tensor, rows: Tensor) -> bytes:
    """An .npz file that `load_points` reads: x after the attack, y; original x, success, norms, rows of the data."""
    buffer = io.BytesIO()
    arrays = {"x": found.x.reshape(x.shape), "y": y, "original": x, "rows": rows}
    arrays |= {"success": found.success, "norms": found.norms}
    plain: Any = {name: array.numpy() for name, array in arrays.items()}
    np.savez_compressed(buffer, **plain)
    return buffer.getvalue()


def certificates_to_csv(rows: Tensor, y: Tensor, classes: Tensor, radii: Tensor) -> bytes:
    """A line for each point; a radius with all its digits, because rounded up it would claim too much."""
    columns = (part.tolist() for part in (rows, y, classes, radii))
    lines = [",".join(map(str, line)) for line in zip(*columns, strict=True)]
    return ("\n".join(["row,class,predicted,radius", *lines]) + "\n").encode()
