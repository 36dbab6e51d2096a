"""Records as rows of plain values under dotted keys: filtered, sorted, written as CSV."""

import csv
import difflib
import io
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from ..train.recipe import Recipe
from .record import Record

Row = dict[str, Any]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"(.+?)\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_ALWAYS_SHOWN = ("experiment", "seed")  # shown of every record, with its metrics; the rest if records differ in it
_NEVER_SHOWN = ("key", "seconds", "device", "versions.", "commit", "sources", "when")


def flatten_record(record: Record) -> Row:
    """A record under keys such as config.network.width; a list as JSON, curves left out, a recipe with its defaults."""
    row: Row = {}
    values = {name: value for name, value in asdict(record).items() if name != "curves"}
    if "recipe" in record.config:
        values["config"] = values["config"] | {"recipe": asdict(Recipe()) | record.config["recipe"]}
    _flatten(values, "", row)
    return row


def _flatten(values: Mapping[str, Any], before: str, row: Row) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{before}{name}.", row)
        else:
            row[before + name] = json.dumps(value) if isinstance(value, list | tuple) else value


def columns(rows: Iterable[Row]) -> list[str]:
    """All keys: those of one part of the record together, in the order of their first appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    parts = list(dict.fromkeys(key.split(".")[0] for key in keys))
    return sorted(keys, key=lambda key: parts.index(key.split(".")[0]))


def informative_columns(rows: Sequence[Row]) -> list[str]:
    """The keys to look at: experiment, seed, what the configs differ in, and the metrics."""

    def is_informative(key: str) -> bool:
        if key in _ALWAYS_SHOWN or key.startswith("metrics."):
            return True
        return not key.startswith(_NEVER_SHOWN) and len({row.get(key) for row in rows}) > 1

    return [key for key in columns(rows) if is_informative(key)]


def select(rows: Sequence[Row], conditions: Sequence[str], sort: str | None = None) -> list[Row]:
    """The rows that meet all conditions, such as seed=0 or metrics.test_accuracy>0.99; sort: a key, or -key for falling order.

    A row without the key meets != only, and comes last. Raises ValueError if there is no such key, operator or number.
    """
    known = columns(rows)
    tests = [_condition(text, known) for text in conditions]
    chosen = [row for row in rows if all(test(row) for test in tests)]
    if sort is None:
        return chosen
    falling, key = sort.startswith("-"), resolve_key(known, sort.removeprefix("-"))
    have = [row for row in chosen if row.get(key) is not None]
    mixed = len({isinstance(row[key], str) for row in have}) > 1
    have.sort(key=lambda row: str(row[key]) if mixed else row[key], reverse=falling)
    return have + [row for row in chosen if row.get(key) is None]


def resolve_key(known: Sequence[str], key: str) -> str:
    """The known key that is meant: itself, or the only one that ends in .key. Raises ValueError if there is none, or more."""
    if key in known:
        return key
    found = [name for name in known if name.endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{key!r} may be any of {truncate_list(found)}")
    ends = {name if "." in key else name.rsplit(".", 1)[-1]: name for name in known}
    near = [ends[end] for end in difflib.get_close_matches(key, ends, 3, 0.6)]
    raise ValueError(f"no record has {key!r}; there is {truncate_list(near or known)}")


def truncate_list(keys: Sequence[str], most: int = 6) -> str:
    """The first of them, in words."""
    more = f" and {len(keys) - most:,} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def columns_that_fit(keys: Sequence[str], widths: Mapping[str, int], room: int) -> list[str]:
    """As many of the keys, in their order, as there is room for: first what each record has, then configs and metrics in turn."""
    first = [key for key in keys if key in _ALWAYS_SHOWN]
    metrics = [key for key in keys if key.startswith("metrics.")]
    rest = [key for key in keys if key not in first and key not in metrics]
    turns = [key for pair in zip_longest(metrics, rest) for key in pair if key is not None]
    chosen: set[str] = set()
    for key in (*first, *turns):
        if room >= widths[key]:
            chosen.add(key)
            room -= widths[key]
    return [key for key in keys if key in chosen]


def _condition(text: str, known: Sequence[str]) -> Callable[[Row], bool]:
    found = _CONDITION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a condition such as seed=0; operators: = != {' '.join(_ORDERS)}")
    key, sign, given = found.groups()
    if given.startswith(("=", "<", ">")):
        raise ValueError(f"{sign + given[0]!r} is no operator; there are = != {' '.join(_ORDERS)}")
    key = resolve_key(known, key)
    if sign in ("=", "!="):
        return lambda row: _same(row.get(key), given) == (sign == "=")
    bound = _number(given)
    if bound is None:
        raise ValueError(f"{text!r} compares with {given!r}, which is not a number")
    compare = _ORDERS[sign]

    def test(row: Row) -> bool:
        value = row.get(key)
        return isinstance(value, int | float) and compare(value, bound)

    return test


def _same(value: Any, given: str) -> bool:
    if isinstance(value, bool) or value is None:
        return json.dumps(value) == given.lower()
    return value == _number(given) if isinstance(value, int | float) else str(value) == given


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def to_csv(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """A header and a line a row; empty where a row lacks the key."""
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
