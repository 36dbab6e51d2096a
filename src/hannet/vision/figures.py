"""Figures of trainings, attacks and certificates."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..attacks import Adversaries

MAX_EXAMPLES = 8


def plot_history(history: Mapping[str, Any]) -> Figure:
    """Loss and errors over the epochs of a training."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history["train_loss"]) + 1)
    left.plot(epochs, history["train_loss"], marker=".")
    left.set(xlabel="epoch", ylabel="training loss")
    for name, label in {"train_error": "training images, as augmented", "validation_error": "images held out"}.items():
        if history[name]:
            right.plot(epochs, [100 * error for error in history[name]], marker=".", label=label)
    right.set(xlabel="epoch", ylabel="error in %", ylim=(0, None))
    right.legend()
    return figure


def plot_certified_accuracy(certified: Tensor, correct: Tensor, radii: Sequence[float], title: str) -> Figure:
    """Certified accuracy over the radius: it falls where the radius of a correctly classified point ends."""
    ends = certified[correct].sort().values.tolist()
    shares = [100 * (len(ends) - passed) / len(correct) for passed in range(len(ends) + 1)]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.stairs(shares, [0.0, *ends, max([*ends, *radii])], baseline=None)
    for radius in radii:
        axis.axvline(radius, color="black", linewidth=0.5, linestyle=":")
    axis.set(xlabel="l2 radius, pixels from 0 to 1", ylabel="certified accuracy in %", ylim=(0, 100))
    axis.set_title(title, parse_math=False)  # a name may hold dollars
    axis.set_xlim(left=0)
    return figure


def plot_adversaries(net: nn.Module, found: Adversaries, x: Tensor, y: Tensor) -> Figure | None:
    """Original, attacked and difference of a few points, from small to large perturbations; None if there is nothing to show."""
    fooled = (found.success & (found.norms > 0)).nonzero()[:, 0]
    if not len(fooled) or _to_pixels(x[0]) is None:
        return None
    fooled = fooled[found.norms[fooled].argsort()]
    shown = fooled[torch.linspace(0, len(fooled) - 1, min(MAX_EXAMPLES, len(fooled))).round().long()]
    with torch.no_grad():
        predicted = net(found.x[shown]).argmax(1)
    attacked = found.x.reshape(x.shape)[shown].to(x.dtype)
    change = attacked - x[shown]
    figure = Figure(figsize=(1.3 * len(shown) + 1.2, 4.6), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False)
    for line, label, images in zip(axes, ("original", "attacked", "change"), (x[shown], attacked, change), strict=True):
        line[0].set_ylabel(label)
        for axis, image in zip(line, images, strict=True):
            _draw(axis, image, float(change.abs().max()) if label == "change" else None)
    if x.shape[1] != 3:
        figure.supxlabel("change: red where there is less, blue where there is more", fontsize=10)
    for place, row in enumerate(shown.tolist()):
        axes[0, place].set_title(f"{int(y[row])}", fontsize=10)
        axes[1, place].set_title(f"taken for {int(predicted[place])}", fontsize=10)
        axes[2, place].set_title(f"norm {found.norms[row]:.3g}", fontsize=10)
    return figure


def _to_pixels(x: Tensor) -> Tensor | None:
    """One point as matplotlib shows it, (h, w) or (h, w, 3); None if it is no image."""
    if x.ndim == 1 and (side := math.isqrt(len(x))) ** 2 == len(x):
        return x.reshape(side, side)
    if x.ndim == 3 and x.shape[0] in (1, 3):
        return x[0] if x.shape[0] == 1 else x.permute(1, 2, 0)
    return x if x.ndim == 2 else None


def _draw(axis: Axes, image: Tensor, largest_change: float | None) -> None:
    """largest_change: in any of the pictures, if this is one of changes; None for an image with pixels from 0 to 1."""
    pixels = _to_pixels(image)
    assert pixels is not None
    if largest_change is None:
        axis.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)
    elif pixels.ndim == 3:
        axis.imshow((0.5 + pixels / (2 * largest_change)).numpy())
    else:
        axis.imshow(pixels.numpy(), cmap="RdBu", vmin=-largest_change, vmax=largest_change)
    axis.set(xticks=[], yticks=[])
