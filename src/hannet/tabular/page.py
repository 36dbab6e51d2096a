"""The page of a fitted model, from the facts that report.json keeps: so that of a folder of long ago can be written, too."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..reporting.html import FILE, Bar, Page, Section, picture, read_pictures
from ..reporting.intervals import format_interval
from ..reporting.page_parts import made_section, page_from
from ..reporting.tables import Table
from . import metrics

__all__ = ["FILE", "make_page", "page_of"]
MAX_BARS = 20  # columns that what matters most shows
MAX_ROWS = 300  # of a table; report.json has all
_PYTHON = """from pathlib import Path

from hannet.tabular.model import Model
from hannet.tabular.readers import read

model = Model.load(Path({folder!r}))
print(model.predict(read(Path("NEW.csv"))).cells["prediction"])"""


def page_of(folder: Path) -> Page:
    """The page of what `hannet fit` saved in a folder, of any version. Raises ReportError for what it did not write."""
    pictures = read_pictures(folder, "report")
    return page_from(folder / "report.json", "hannet fit", lambda facts: make_page(facts, str(folder), pictures))


def make_page(facts: Mapping[str, Any], folder: str, pictures: Mapping[str, bytes]) -> Page:
    """The page of a fit.

    Args:
        facts: Those of `Report.facts`.
        folder: Where the model is, for the lines that use it.
        pictures: Files by name, report.svg and report.png among them.
    """
    rows, name = facts["rows"], facts["target"]["name"]
    form = metrics.error_format(rows)
    result, about = _headline(rows, facts, form)
    drawn = picture(f"{name}: predicted and true, held-out rows", pictures, "report")
    cost = {"size": ("weights or leaves", "{0[count]:,}"), "seconds": ("sec", "{:.1f}")}
    compared = Table("", {"model": ("model", ""), **metrics.headings(rows), **cost}, rows)
    sections = [
        Section("Compared with", tables=[compared], pictures=[drawn] if drawn else []),
        *_classes(facts.get("classes", [])),
        *_importance(facts, form),
        _columns(facts),
        Section("Notes", notes=[*facts["notes"]]),
        _use(folder),
        made_section(facts, seed=str(facts["plan"]["seed"])),
    ]
    return Page(f"Predicting {name}", result, about, sections)


def _headline(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], form: str) -> tuple[str, list[str]]:
    """The result of the HanNet, and lines about it: its interval, the best of the other models."""
    key, what = ("accuracy", "accuracy") if facts["target"]["classes"] else ("rmse", "RMSE")
    form = ".1%" if key == "accuracy" else form
    first, *others = rows
    grouped = facts.get("split", {}).get("by") == "group"
    how = "bootstrap of groups" if grouped else "Wilson" if key == "accuracy" else "bootstrap"
    interval = f"; 95% interval {format_interval(first['interval'], form)} ({how})" if "interval" in first else ""
    about = [f"{what} of HanNet on {facts['test_rows']:,} rows that it was not trained on{interval}."]
    if others:
        best = (max if key == "accuracy" else min)(others, key=lambda row: row[key])
        better = best[key] > first[key] if key == "accuracy" else best[key] < first[key]
        known = f", {format_interval(best['interval'], form)}" if "interval" in best else ""
        about.append(
            f"Best of the {len(others)} other models: {best['model']}, {best[key]:{form}}{known}"
            f"{', which is better' if better else ''}."
        )
    return f"{first[key]:{form}}", about


def _classes(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    if not rows:
        return []
    columns = {
        "class": ("class", ""),
        "train_rows": ("rows trained on", "{:,}"),
        "test_rows": ("rows held out", "{:,}"),
    }
    columns |= {"recall": ("recall", "{:.1%}"), "precision": ("precision", "{:.1%}")}
    return [Section("Class by class", tables=[_limited("", columns, rows)])]


def _importance(facts: Mapping[str, Any], form: str) -> list[Section]:
    """The columns that matter most, with the spread over shuffles where it was measured."""
    means, spreads = facts["importance"], facts.get("importance_std", {})
    first = [(name, rise) for name, rise in means.items() if rise > 0][:MAX_BARS]
    if not first:
        return []
    spread = {name: f" ± {spreads[name]:{form}}" if name in spreads else "" for name, _ in first}
    bars = [Bar(name, rise, f"{rise:{form}}{spread[name]}") for name, rise in first]
    what = facts.get("importance_of", "rise of the error of held-out rows when the column is shuffled")
    measured = f"{what[0].upper()}{what[1:]}{'; ±: standard deviation over shuffles' if spreads else ''}."
    left = len(means) - len(first)
    note = [f"Not shown: {left:,} more, of which none matters more."] if left else []
    return [Section("What matters most", text=[measured], bars=bars, bar_headings=("column", "rise"), notes=note)]


def _columns(facts: Mapping[str, Any]) -> Section:
    """The data as they were understood: what each column is, its gaps, what it became or why it is left out."""
    total = facts["train_rows"] + facts["test_rows"]
    rows: list[dict[str, Any]] = [
        {
            "column": name,
            "kind": " ".join([column["kind"], *([column["form"]] if column.get("form") else [])]),
            "missing": None if column.get("missing") is None else column["missing"] / total,
            "inputs": len(column["inputs"]),
        }
        for name, column in facts["columns"].items()
    ]
    rows += [{"column": name, "kind": f"left out: {why}"} for name, why in facts["dropped"].items()]
    columns = {"column": ("column", ""), "kind": ("read as", ""), "missing": ("missing", "{:.1%}")}
    columns |= {"inputs": ("inputs of the net", "{}")}
    task = f"classification, {len(facts['target']['classes'])} classes" if facts["target"]["classes"] else "regression"
    split = "; ".join(f"{key}: {value}" for key, value in facts.get("split", {}).items())
    shown = {"target": f"{facts['target']['name']} ({task})"}
    shown["rows"] = (
        f"{facts['train_rows']:,} to train on, {facts['test_rows']:,} held out{f' ({split})' if split else ''}"
    )
    return Section("The data as understood", tables=[_limited("Columns", columns, rows)], facts=shown)


def _limited(title: str, columns: Mapping[str, tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of so many rows that a page stays small."""
    left = len(rows) - MAX_ROWS
    return Table(title, columns, rows[:MAX_ROWS], [f"and {left:,} more, in report.json"] if left > 0 else [])


def _use(folder: str) -> Section:
    command = f"hannet predict {shlex.quote(folder)} NEW.csv"
    return Section(
        "How to use the model",
        text=["NEW.csv has the columns above; the predictions are written to NEW-predictions.csv."],
        code=[command, _PYTHON.format(folder=folder)],
    )
