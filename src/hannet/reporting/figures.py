"""Figures as files."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_as_bytes(figure: "Figure", form: str) -> bytes:
    """The picture as a png or svg file; equal pictures are equal files."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "hannet"}):  # with no date either, equal results are equal files
        figure.savefig(buffer, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()
