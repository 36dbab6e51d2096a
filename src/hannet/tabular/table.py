"""What every reader of tables returns: the cells as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..data import DataError


class TableError(DataError):
    """A table that cannot be read or learned from; the message is one sentence for the user."""


@dataclass(frozen=True)
class Table:
    """The cells of a file as text, column by column.

    Args:
        cells: Columns of strings; "" is an empty cell.
        notes: What a person should know of how the file was read.
        delimiter: Between the fields of a line.
        numeric: Columns that the file itself holds as numbers, so that their text has a decimal point.
    """

    cells: pd.DataFrame
    notes: tuple[str, ...] = ()
    delimiter: str = ","
    numeric: frozenset[str] = frozenset()


def evenly_spaced(cells: pd.Series, count: int) -> pd.Series:
    """So many of the cells, or up to twice as many, at equal distances."""
    return cells.iloc[:: max(1, len(cells) // count)]


def join_names(names: Sequence[str], limit: int = 6) -> str:
    """The first of the names, with commas between."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
