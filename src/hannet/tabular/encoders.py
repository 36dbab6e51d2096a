"""Columns of text become a matrix of finite numbers, the same way each time: learned from training rows, kept as JSON."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from . import dates
from .categories import Category
from .columns import Date, Number
from .missing import DEFAULT_MISSING, Tokens, missing_mask, missing_numeric
from .numbers import marks_of_new_cells
from .readers import TableError, join_names
from .text import Text, is_text

MAX_LEVELS = 32  # one-hot columns of one category, at most
MAX_ONE_HOT = 1024  # and of all categories together, if each is to have two
MAX_ENTRIES = 2.5e8  # of the training rows' matrix, at most, as far as one-hot columns make it large: 2 GB
CONSTANT = "always the same"
IDENTIFIER = "nearly all values differ: an identifier"

Column = Number | Date | Category | Text
Kind = Literal["number", "category", "date", "text"]  # what a user may ask for
KINDS: dict[str, type[Any]] = {"number": Number, "boolean": Number, "date": Date, "category": Category, "text": Text}


@dataclass(frozen=True)
class Encoder:
    """How each column becomes numbers, or why it is dropped; notes on what was learned, not saved; tokens read as missing."""

    columns: tuple[Column, ...]
    dropped: Mapping[str, str]
    notes: Sequence[str] = field(default=(), compare=False)
    missing: Sequence[str] = DEFAULT_MISSING

    @classmethod
    def fit(
        cls,
        cells: pd.DataFrame,
        unwanted: Mapping[str, str] | None = None,
        decimals: Mapping[str, str] | None = None,
        tokens: Tokens = DEFAULT_MISSING,
        kinds: Mapping[str, Kind] | None = None,
    ) -> "Encoder":
        """Learn from the training rows.

        Args:
            cells: The rows as text.
            unwanted: Columns to drop, and why.
            decimals: The marks of those without a point.
            tokens: What is read as missing.
            kinds: What columns hold, where their cells need not tell.

        Raises:
            TableError: No column is of use, or one cannot be read as the kind asked for.
        """
        found: dict[str, Column] = {}
        notes: list[str] = []
        dropped, decimals, kinds = dict(unwanted or {}), decimals or {}, kinds or {}
        categories = []
        for name in cells.columns.difference(list(dropped), sort=False):
            if missing_mask(cells[name], tokens).all():
                dropped[name] = "empty"
            elif cells[name].nunique() == 1:
                dropped[name] = CONSTANT
            else:
                column, more = _learn_column(name, cells[name], decimals.get(name, "."), tokens, kinds.get(name))
                notes += more
                if column:
                    found[name] = column
                else:
                    categories.append(name)
        inputs = sum(len(column.inputs) for column in found.values())
        limit, limit_notes = _level_limit(len(cells), inputs, len(categories))
        for name in categories:
            category, more = Category.fit(name, cells[name], limit, tokens, forced=kinds.get(name) == "category")
            if category:
                found[name] = category
                notes += more
            else:
                dropped[name] = IDENTIFIER
        dropped |= {name: CONSTANT for name, column in found.items() if not column.inputs}
        columns = tuple(found[name] for name in cells if name in found and name not in dropped)
        if not columns:
            reasons = [f"{name!r} ({why})" for name, why in dropped.items()]
            raise TableError(f"no column to predict from is left: {join_names(reasons, 5)}")
        return cls(columns, dropped, [*notes, *limit_notes], tuple(tokens))

    @property
    def numeric(self) -> list[str]:
        """Names of the columns that hold numbers or dates."""
        return [column.name for column in self.columns if isinstance(column, Number | Date)]

    @property
    def inputs(self) -> list[str]:
        """Names of the matrix's columns."""
        return [name for column in self.columns for name in column.inputs]

    @property
    def groups(self) -> dict[str, slice]:
        """Where in the matrix each column of the table went."""
        ends = np.cumsum([len(column.inputs) for column in self.columns]).tolist()
        return {c.name: slice(end - len(c.inputs), end) for c, end in zip(self.columns, ends, strict=True)}

    def count_missing(self, cells: pd.DataFrame) -> dict[str, int]:
        """How many cells of each column of the table are read as missing."""
        masks = {
            column.name: missing_numeric(cells[column.name], self.missing, column.gaps)
            if isinstance(column, Number | Date)
            else missing_mask(cells[column.name], self.missing)
            for column in self.columns
        }
        return {name: int(mask.sum()) for name, mask in masks.items()}

    def encode(self, cells: pd.DataFrame, numeric: Collection[str] = ()) -> tuple[np.ndarray, list[str]]:
        """Matrix (rows, inputs) of finite float64, and notes on unusual values; raises TableError if a column is missing.

        numeric: columns whose numbers have a decimal point in any case.
        """
        if lacking := [column.name for column in self.columns if column.name not in cells]:
            raise TableError(f"the table lacks {len(lacking)} of the model's columns: {', '.join(map(repr, lacking))}")
        columns, notes = self._spelled_as(cells, numeric)
        matrix = np.empty((len(cells), len(self.inputs)))
        found: list[tuple[str, str]] = []
        for column, place in zip(columns, self.groups.values(), strict=True):
            blocks, column_notes = column.encode(cells[column.name], self.missing)
            found += [(column.name, note) for note in (*column_notes, *self._empty_note(column, cells[column.name]))]
            for position, block in enumerate(blocks, place.start):
                matrix[:, position] = block
        return matrix, notes + _join_notes(found)

    def _spelled_as(self, cells: pd.DataFrame, numeric: Collection[str]) -> tuple[list[Column], list[str]]:
        """The columns with the decimal marks of these cells, and notes where those are not the ones learned."""
        learned = {column.name: column.decimal for column in self.columns if isinstance(column, Number)}
        text = {name: mark for name, mark in learned.items() if name not in numeric}
        sizes = {column.name: column.sizes for column in self.columns if isinstance(column, Number)}
        found, notes = marks_of_new_cells(cells, text, self.missing, sizes)
        marks = dict.fromkeys(learned, ".") | found
        columns = [
            replace(column, decimal=marks[column.name]) if isinstance(column, Number) else column
            for column in self.columns
        ]
        return columns, notes

    def _empty_note(self, column: Column, cells: pd.Series) -> list[str]:
        """A note if a column that told something when it was learned from is empty."""
        mask = missing_numeric if isinstance(column, Number | Date) else missing_mask
        if not all(mask(part, self.missing).all() for part in (cells[:100], cells)):
            return []
        return [f"column {column.name!r} is empty here, and was not in the training rows: it carries no information"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        columns = [asdict(column) for column in self.columns]
        return {"columns": columns, "dropped": dict(self.dropped), "missing": list(self.missing)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Encoder":
        """The encoder that `to_dict` described, exactly; raises KeyError, TypeError or AttributeError if it is none."""
        columns = [KINDS[column["kind"]](**column) for column in state["columns"]]
        return cls(tuple(columns), state["dropped"], missing=tuple(state.get("missing", DEFAULT_MISSING)))


def _join_notes(found: Sequence[tuple[str, str]]) -> list[str]:
    """The notes, each with the column that it is on; those that say the same of several columns are one."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, note in found:
        before, title, after = note.partition(f"column {name!r}:")
        names.setdefault((before, title and ":", after), []).append(repr(name))
    return [
        f"{before}column{'s' * (len(columns) > 1)} {join_names(columns)}:{after}" if title else before
        for (before, title, after), columns in names.items()
    ]


def _learn_column(
    name: str, cells: pd.Series, decimal: str, tokens: Tokens, kind: Kind | None
) -> tuple[Column | None, list[str]]:
    """What the cells hold, or of this kind; None for a category, or for what is none either; and notes."""
    if kind == "category":
        return None, []
    if kind == "text":
        return Text.fit(name, cells, tokens), []
    if kind == "date":
        return Date.fit(name, cells, tokens, forced=True)
    if kind == "number":
        return Number.fit(name, cells, decimal, tokens, forced=True)
    present = cells[~missing_numeric(cells, tokens)]
    notes: list[str] = []
    if not dates.form_of_numbers(name, present):
        number, notes = Number.fit(name, cells, decimal, tokens)
        if number:
            return number, notes
    date, date_notes = Date.fit(name, cells, tokens)
    if date:
        return date, date_notes
    if dates.look_like_dates(present):
        notes += [
            f"column {name!r}: values such as {present.iloc[0][:40]!r} look like dates, but in no known format, and are not read as such"
        ]
    return Text.fit(name, cells, tokens) if is_text(present) else None, notes


def _level_limit(rows: int, inputs: int, texts: int) -> tuple[int, list[str]]:
    """The most one-hot columns of a category beside other inputs, and a note if the rows are too many for the usual number."""
    usual = max(2, min(MAX_LEVELS, MAX_ONE_HOT // max(1, texts)))
    limit = max(2, min(usual, int(MAX_ENTRIES / rows - inputs) // max(1, texts)))
    note = f"for so many rows, categories have {limit} columns at most, instead of {usual}"
    return limit, [note] if texts and limit < usual else []
