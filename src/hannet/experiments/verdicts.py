"""Ours beside the paper's, row by row: within the tolerance that the experiment states, different, or not run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..reporting.tables import Table

COLUMNS = {
    "row": ("row", ""),
    "ours": ("ours", "{}"),
    "theirs": ("paper", "{}"),
    "difference": ("difference", "{}"),
    "verdict": ("verdict", ""),
}


@dataclass(frozen=True)
class Comparison:
    """Which of a table's values is compared with which of the paper's.

    Args:
        ours: Key of our value in a row.
        paper: Key of the paper's.
        within: Largest difference that counts as the same.
        rows: Keys that name a row.
        what: What is compared, if the table has several.
        std: Key of our standard deviation over seeds.
        relative: Whether `within` is a share of the paper's value.
        higher_is_better: Whether more is better.
        form: Number format.
        without: Values of a row that is not compared, as another has the same number of the paper.
    """

    ours: str
    paper: str
    within: float
    rows: Sequence[str]
    what: str = ""
    std: str = ""
    relative: bool = False
    higher_is_better: bool = True
    form: str = ".1f"
    without: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tolerance(self) -> str:
        """The tolerance in words.

        >>> print(Comparison("rmse", "paper", 0.05, ["set"], relative=True).tolerance)
        5% of the paper's
        """
        return f"{self.within:.0%} of the paper's" if self.relative else f"{self.within:g}"


@dataclass(frozen=True)
class Verdict:
    """A row of ours beside theirs. same: None if ours is not there."""

    row: str
    ours: float | None
    std: float | None
    theirs: float
    same: bool | None
    comparison: Comparison

    def cells(self) -> dict[str, str]:
        """The row as COLUMNS shows it."""
        form, theirs = self.comparison.form, f"{self.theirs:{self.comparison.form}}"
        if self.ours is None:
            return {"row": self.row, "ours": "–", "theirs": theirs, "difference": "–", "verdict": "not run"}
        spread = "" if self.std is None else f" ± {self.std:{form}}"
        better = (self.ours > self.theirs) == self.comparison.higher_is_better
        verdict = "✓ within tolerance" if self.same else f"≠ differs: {'better' if better else 'worse'}"
        shown = {"ours": f"{self.ours:{form}}{spread}", "difference": f"{self.ours - self.theirs:+{form}}"}
        return {"row": self.row, "theirs": theirs, "verdict": verdict, **shown}


def compare(rows: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison]) -> list[Verdict]:
    """A verdict on each row of a table that the paper has a number for.

    >>> rows = [{"net": "HanNet", "test": 98.5, "paper": 99.2}, {"net": "ours", "test": 3.0, "paper": None}]
    >>> [verdict.same for verdict in compare(rows, [Comparison("test", "paper", 1.0, ["net"])])]
    [True]
    """
    return [verdict for comparison in comparisons for verdict in _verdicts(rows, comparison)]


def _verdicts(rows: Sequence[Mapping[str, Any]], comparison: Comparison) -> Iterator[Verdict]:
    for row in rows:
        theirs = row.get(comparison.paper)
        if theirs is None or comparison.without.items() & row.items():
            continue
        ours = row[comparison.ours]
        parts = [*(_named(key, row.get(key)) for key in comparison.rows), comparison.what]
        limit = comparison.within * (abs(theirs) if comparison.relative else 1)
        same = None if ours is None else abs(ours - theirs) <= limit
        name = ", ".join(filter(None, parts))
        yield Verdict(name, ours, row.get(comparison.std), theirs, same, comparison)


def _named(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0%}"
    return f"{key} {value}" if isinstance(value, int) else str(value or "")


def count(verdicts: Sequence[Verdict]) -> str:
    """How many rows are the same, in words.

    >>> count([])
    'no number to compare with'
    """
    if not verdicts:
        return "no number to compare with"
    run = [verdict for verdict in verdicts if verdict.same is not None]
    missing = f", {len(verdicts) - len(run)} not run" if len(run) < len(verdicts) else ""
    return f"{sum(bool(verdict.same) for verdict in run)} of {len(verdicts)} within tolerance{missing}"


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts as a table that states their tolerances."""
    stated: dict[str, list[str]] = {}
    for one in verdicts:
        stated.setdefault(one.comparison.tolerance, []).append(one.comparison.what)
    limits = "; ".join(f"{limit} ({', '.join(dict.fromkeys(whats))})" for limit, whats in stated.items())
    spread = ["±: standard deviation over seeds"] if any(verdict.std is not None for verdict in verdicts) else []
    notes = [f"tolerance: a difference of at most {limits}", *spread]
    return Table("Ours beside the paper's", COLUMNS, [verdict.cells() for verdict in verdicts], notes)
