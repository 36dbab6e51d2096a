"""The figure of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..reporting.figures import Figure, new_figure


def plot_predictions(name: str, classes: tuple[str, ...], y: np.ndarray, output: np.ndarray) -> Figure:
    """Plot predicted against true numbers of held-out rows, or how often each class is taken for which."""
    figure = new_figure(5.2, 4.6)
    axes = figure.add_subplot()
    axes.set_title(f"{len(y):,} held-out rows", fontsize=10)
    horizontal, vertical = ("predicted", "true") if classes else ("true", "predicted")
    axes.set_xlabel(f"{horizontal}: {_short(name)}", parse_math=False)
    axes.set_ylabel(f"{vertical}: {_short(name)}", parse_math=False)
    if classes:
        _confusion(axes, classes, y, output.argmax(1))
    else:
        ends = [min(y.min(), output.min()), max(y.max(), output.max())]
        axes.plot(ends, ends, color="0.6", linewidth=1)
        _scale(axes, ends)
        axes.scatter(y, output, s=8, alpha=min(1.0, max(0.1, 300 / len(y))), linewidths=0, rasterized=True)
    return figure


def _scale(axes: Any, ends: Sequence[float]) -> None:
    """Put few numbers along both axes, long ones as 150k or 1.5M, so that they do not overlap."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    largest = max(map(abs, ends))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        if 1e4 <= largest < 1e9 and ends[1] - ends[0] > largest / 100:
            axis.set_major_formatter(EngFormatter(sep=""))


def _short(name: str, limit: int = 40) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _confusion(axes: Any, classes: tuple[str, ...], y: np.ndarray, predicted: np.ndarray) -> None:
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (y, predicted), 1)
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= 30:
        names = [_short(name, 14) for name in classes]
        turn = 90 if max(map(len, names)) * len(names) > 40 else 0
        axes.set_xticks(range(len(names)), names, rotation=turn, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(classes) <= 12:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
