"""Figures, which need matplotlib only once one is drawn, and figures as files."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


__all__ = ["Figure", "figure_as_bytes", "new_figure"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that makes room for its labels; sizes in inches."""
    from matplotlib import figure

    return figure.Figure(figsize=(width, height), layout="constrained")


def figure_as_bytes(figure: Figure, form: str) -> bytes:
    """The picture as a png or svg file; equal pictures are equal files."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "hannet"}):  # with no date either, equal results are equal files
        figure.savefig(buffer, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()
