"""Text as numbers: missing tokens, decimal marks, currency signs."""

from collections import Counter
from collections.abc import Collection

import numpy as np
import pandas as pd

from .readers import Table, join_names

MISSING_TOKENS = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "?", "-", "--"})
DEFAULT_MISSING = ("default",)  # among a user's tokens, it stands for MISSING_TOKENS
MAX_INVALID = 0.05  # this share of a column's values may be no numbers, or no dates: they are taken as missing
Tokens = Collection[str]  # a user's, in any case
# Numbers for people: with a currency or percent sign, and marks between thousands.
SIGN = r"(?:[$€£%]|CHF|EUR|GBP|USD)"
GAP = "[ '\u2019\u00a0\u202f]"  # between thousands, or between number and sign
MINUS = "\N{MINUS SIGN}"


def _grammar(thousands: str, decimal: str) -> str:
    groups = "|".join(rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+" for mark in (thousands, GAP))
    body = rf"(?:(?:\d+|{groups})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    return rf"[+{MINUS}-]?{SIGN}?{GAP}?[+{MINUS}-]?{body}{GAP}?{SIGN}?"


GRAMMAR = {".": _grammar(",", r"\."), ",": _grammar(r"\.", ",")}  # by the decimal mark


def missing_tokens(tokens: Tokens) -> frozenset[str]:
    """What a missing cell may hold, in lower case: nothing, or one of the tokens, where DEFAULT_MISSING stands for MISSING_TOKENS."""
    return user_tokens(tokens) | (MISSING_TOKENS if _includes_default(tokens) else {""})


def user_tokens(tokens: Tokens) -> frozenset[str]:
    """The tokens that a person named, in lower case."""
    return frozenset(map(str.lower, tokens)) - {*DEFAULT_MISSING}


def _includes_default(tokens: Tokens) -> bool:
    return any(token.lower() in DEFAULT_MISSING for token in tokens)


def missing_mask(cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> np.ndarray:
    """A mask of the cells that are empty or one of the tokens, in any case.

    Of MISSING_TOKENS "-" is a value where "+" is one too, and "NA" where all others are codes of two capitals.
    """
    missing = cells.str.lower().isin(missing_tokens(tokens)).to_numpy(bool)
    if _includes_default(tokens) and missing.any():
        named, present = user_tokens(tokens), cells[~missing]
        if "-" not in named and (present == "+").any():
            missing = missing & (cells != "-").to_numpy(bool)
        if "na" not in named and present.nunique() > 1 and present.str.fullmatch("[A-Z]{2}").all():
            missing = missing & (cells != "NA").to_numpy(bool)
    return missing


def missing_numeric(cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> np.ndarray:
    """A mask as `missing_mask` gives it, by default with "none" too, which is a level of a category but no number or date."""
    missing = missing_mask(cells, tokens)
    return missing | (cells.str.lower() == "none").to_numpy(bool) if _includes_default(tokens) else missing


def missing_tokens_note(cells: pd.DataFrame, tokens: Tokens) -> list[str]:
    """A note on the tokens that are read as missing, how often and in which columns."""
    counts: Counter[str] = Counter()
    columns: dict[str, list[str]] = {}
    for name in cells:
        found = cells[name][missing_mask(cells[name], tokens) & (cells[name] != "")].value_counts()
        counts.update(found.to_dict())
        for token in found.index:
            columns.setdefault(token, []).append(repr(name))
    named = [f"{token!r} ({count:,}, in {join_names(columns[token])})" for token, count in counts.most_common()]
    return [f"read as missing: {join_names(named, 5)}; --missing names other words"] if named else []


def unmatched_missing_tokens(cells: pd.DataFrame, tokens: Tokens) -> list[str]:
    """A note on the tokens named that no cell holds: -999 is not found where the file has -999.0."""

    def occurs(token: str) -> bool:
        return any((cells[name].str.lower() == token).any() for name in cells)

    unmatched = [repr(token) for token in sorted(user_tokens(tokens)) if not occurs(token)]
    return [f"--missing: no cell holds {join_names(unmatched)}"] if unmatched else []


def parse_numbers(cells: pd.Series, decimal: str = ".") -> np.ndarray:
    """The cells as float64, read with this decimal mark; NaN where one is no number."""
    cells = cells.str.replace(MINUS, "-", regex=False)
    values = np.full(len(cells), np.nan)
    if decimal == ".":  # all that programs write, such as 1e3 and inf
        values = np.array(pd.to_numeric(cells, errors="coerce"), float)
    formatted = np.isnan(values) & cells.str.fullmatch(GRAMMAR[decimal]).to_numpy(bool)
    digits = cells[formatted].str.replace(f"{SIGN}|{GAP}", "", regex=True)
    digits = digits.str.replace("," if decimal == "." else ".", "", regex=False).str.replace(decimal, ".", regex=False)
    values[formatted] = pd.to_numeric(digits, errors="coerce")
    return values


def number_signs(cells: pd.Series) -> list[str]:
    """The currencies and percent signs beside numbers; "": a number without one."""
    signed = cells[cells.str.contains(SIGN)]
    signs = set(signed.str.extract(f"({SIGN})", expand=False))
    return sorted(signs | {""} if len(signed) < len(cells) else signs)


def infer_decimal_marks(table: Table, tokens: Tokens = DEFAULT_MISSING) -> tuple[dict[str, str], list[str]]:
    """The decimal mark of each column, chosen by all its cells, and notes where a person might read otherwise."""
    marks: dict[str, str] = {}
    ambiguous: dict[str, pd.Series] = {}  # such as 1.234
    for name in table.cells.columns.difference(list(table.numeric), sort=False):
        cells = table.cells[name][~missing_numeric(table.cells[name], tokens)]
        point, comma = (cells.str.fullmatch(GRAMMAR[mark]) for mark in ".,")
        if max(point.sum(), comma.sum()) < max(1.0, (1 - MAX_INVALID) * len(cells)):
            continue  # text
        if point.sum() == comma.sum():
            ambiguous[name] = cells[point & cells.str.contains("[.,]")]
        else:
            marks[name] = "," if comma.sum() > point.sum() else "."
    known = set(marks.values())
    default = "," if "," in known or (table.delimiter == ";" and "." not in known) else "."
    commas = [repr(name) for name, mark in marks.items() if mark == ","]
    notes = [f"numbers have decimal commas in {join_names(commas)}"] if commas else []
    # Nobody takes 1.234 for anything else where numbers have points.
    pattern = ",|[.]" if default == "," else ","
    unsure = {name: cells for name, cells in ambiguous.items() if cells.str.contains(pattern).any()}
    if unsure:
        example = next(iter(unsure.values()))[:1]
        notes.append(
            f"numbers such as {example.iloc[0]!r} can be read in two ways, here as {parse_numbers(example, default)[0]:.12g}, in "
            f"{join_names(list(map(repr, unsure)))}"
        )
    return dict.fromkeys(table.cells, default) | dict.fromkeys(table.numeric, ".") | marks, notes
