"""Text as numbers: missing tokens, decimal marks, currency signs."""

from collections import Counter
from collections.abc import Collection

import numpy as np
import pandas as pd

from .readers import Table, join_names

MISSING_TOKENS = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "?", "-", "--"})
DEFAULT_MISSING = ("default",)  # among chosen words, it stands for these
MAX_INVALID = 0.05  # this share of a column's values may be no numbers, or no dates: they are taken as missing
# Numbers for people: with a currency or percent sign, and marks between thousands.
SIGN = r"(?:[$€£%]|CHF|EUR|GBP|USD)"
GAP = "[ '\u2019\u00a0\u202f]"  # between thousands, or between number and sign
MINUS = "\N{MINUS SIGN}"


def _grammar(thousands: str, decimal: str) -> str:
    groups = "|".join(rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+" for mark in (thousands, GAP))
    body = rf"(?:(?:\d+|{groups})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    return rf"[+{MINUS}-]?{SIGN}?{GAP}?[+{MINUS}-]?{body}{GAP}?{SIGN}?"


GRAMMAR = {".": _grammar(",", r"\."), ",": _grammar(r"\.", ",")}  # by the decimal mark


def missing_tokens(words: Collection[str]) -> frozenset[str]:
    """What a missing cell may hold, in lower case: nothing, or one of the words, where DEFAULT_MISSING stands for MISSING_TOKENS."""
    return user_tokens(words) | (MISSING_TOKENS if _named(words).issuperset(DEFAULT_MISSING) else {""})


def user_tokens(words: Collection[str]) -> frozenset[str]:
    """The words that a person named, in lower case."""
    return _named(words) - {*DEFAULT_MISSING}


def _named(words: Collection[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


def missing_mask(cells: pd.Series, words: Collection[str] = DEFAULT_MISSING) -> np.ndarray:
    """Where a cell is empty or one of the words, in any case.

    Of MISSING_TOKENS "-" is a value where "+" is one too, and "NA" where all others are codes of two capitals.
    """
    found = cells.str.lower().isin(missing_tokens(words)).to_numpy(bool)
    named = _named(words)
    if named.issuperset(DEFAULT_MISSING) and found.any():
        others = cells[~found]
        if "-" not in named and (others == "+").any():
            found = found & (cells != "-").to_numpy(bool)
        if "na" not in named and others.nunique() > 1 and others.str.fullmatch("[A-Z]{2}").all():
            found = found & (cells != "NA").to_numpy(bool)
    return found


def missing_numeric(cells: pd.Series, words: Collection[str] = DEFAULT_MISSING) -> np.ndarray:
    """Missing, or by default "none" too: as a category that is a level, among numbers and dates it is not."""
    found = missing_mask(cells, words)
    return found | (cells.str.lower() == "none").to_numpy(bool) if _named(words).issuperset(DEFAULT_MISSING) else found


def missing_tokens_note(cells: pd.DataFrame, words: Collection[str], most: int = 5) -> list[str]:
    """A note on the words that are read as missing, how often and in which columns."""
    counts: Counter[str] = Counter()
    columns: dict[str, list[str]] = {}
    for name in cells:
        found = cells[name][missing_mask(cells[name], words) & (cells[name] != "")].value_counts()
        counts.update(found.to_dict())
        for word in found.index:
            columns.setdefault(word, []).append(repr(name))
    named = [f"{word!r} ({count:,}, in {join_names(columns[word])})" for word, count in counts.most_common(most)]
    more = ", ..." if len(counts) > most else ""
    return [f"read as missing: {', '.join(named)}{more}; --missing names other words"] if named else []


def unmatched_missing_tokens(cells: pd.DataFrame, words: Collection[str]) -> list[str]:
    """A note on the words named that no cell holds: -999 is not found where the file has -999.0."""
    silent = [
        word
        for word in sorted(user_tokens(words))
        if not any((cells[name].str.lower() == word).any() for name in cells)
    ]
    return [f"--missing: no cell holds {join_names([repr(word) for word in silent])}"] if silent else []


def parse_numbers(cells: pd.Series, decimal: str = ".") -> np.ndarray:
    """The cells as float64, read with this decimal mark; NaN where one is no number."""
    cells = cells.str.replace(MINUS, "-", regex=False)
    values = np.full(len(cells), np.nan)
    if decimal == ".":  # all that programs write, such as 1e3 and inf
        values = np.array(pd.to_numeric(cells, errors="coerce"), float)
    people = np.isnan(values) & cells.str.fullmatch(GRAMMAR[decimal]).to_numpy(bool)
    bare = cells[people].str.replace(f"{SIGN}|{GAP}", "", regex=True)
    bare = bare.str.replace("," if decimal == "." else ".", "", regex=False).str.replace(decimal, ".", regex=False)
    values[people] = pd.to_numeric(bare, errors="coerce")
    return values


def number_signs(cells: pd.Series) -> list[str]:
    """The currencies and percent signs beside numbers; "": a number without one."""
    signed = cells[cells.str.contains(SIGN)]
    found = set(signed.str.extract(f"({SIGN})", expand=False))
    return sorted(found | {""} if len(signed) < len(cells) else found)


def infer_decimal_marks(table: Table, words: Collection[str] = DEFAULT_MISSING) -> tuple[dict[str, str], list[str]]:
    """The decimal mark of each column, chosen by all its cells, and notes where a person might read otherwise."""
    sure: dict[str, str] = {}
    either: dict[str, pd.Series] = {}  # such as 1.234
    for name in table.cells.columns.difference(list(table.plain), sort=False):
        cells = table.cells[name][~missing_numeric(table.cells[name], words)]
        point, comma = (cells.str.fullmatch(GRAMMAR[mark]) for mark in ".,")
        if max(point.sum(), comma.sum()) < max(1.0, (1 - MAX_INVALID) * len(cells)):
            continue  # text
        if point.sum() == comma.sum():
            either[name] = cells[point & cells.str.contains("[.,]")]
        else:
            sure[name] = "," if comma.sum() > point.sum() else "."
    clear = set(sure.values())
    usual = "," if "," in clear or (table.delimiter == ";" and "." not in clear) else "."
    commas = [name for name, mark in sure.items() if mark == ","]
    notes = [f"numbers have decimal commas in {join_names(list(map(repr, commas)))}"] if commas else []
    # Nobody takes 1.234 for anything else where numbers have points.
    asked = {
        name: cells for name, cells in either.items() if cells.str.contains(",|[.]" if usual == "," else ",").any()
    }
    if asked:
        example = next(iter(asked.values()))[:1]
        notes.append(
            f"numbers such as {example.iloc[0]!r} can be read in two ways, here as {parse_numbers(example, usual)[0]:.12g}, in "
            f"{join_names(list(map(repr, asked)))}"
        )
    return dict.fromkeys(table.cells, usual) | dict.fromkeys(table.plain, ".") | sure, notes
