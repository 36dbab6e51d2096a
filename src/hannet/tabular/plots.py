"""The figure of a report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_predictions(name: str, classes: tuple[str, ...], y: np.ndarray, output: np.ndarray) -> "Figure":
    """Of held-out rows: predicted against true numbers, or how often each class is taken for which."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{len(y):,} held-out rows", fontsize=10)
    kinds = ("predicted", "true") if classes else ("true", "predicted")
    axes.set_xlabel(f"{kinds[0]}: {_short(name)}", parse_math=False)
    axes.set_ylabel(f"{kinds[1]}: {_short(name)}", parse_math=False)
    if classes:
        _confusion(axes, classes, y, output.argmax(1))
    else:
        ends = [min(y.min(), output.min()), max(y.max(), output.max())]
        axes.plot(ends, ends, color="0.6", linewidth=1)
        _scale(axes, ends)
        axes.scatter(y, output, s=8, alpha=min(1.0, max(0.1, 300 / len(y))), linewidths=0, rasterized=True)
    return figure


def _scale(axes: Any, ends: Sequence[float]) -> None:
    """Few numbers along both axes, long ones as 150k or 1.5M, so that they stand apart."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    largest = max(map(abs, ends))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        if 1e4 <= largest < 1e9 and ends[1] - ends[0] > largest / 100:
            axis.set_major_formatter(EngFormatter(sep=""))


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"


def _confusion(axes: Any, classes: tuple[str, ...], y: np.ndarray, predicted: np.ndarray) -> None:
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (y, predicted), 1)
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= 30:
        names = [name if len(name) <= 14 else f"{name[:13]}…" for name in classes]
        turn = 90 if max(map(len, names)) * len(names) > 40 else 0
        axes.set_xticks(range(len(names)), names, rotation=turn, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(classes) <= 12:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
