"""What a person reads about a fitted model."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..reporting import figures, tables
from ..reporting.tables import Table as Results
from ..storage.provenance import versions
from . import baselines, metrics, plots
from .encoders import Date, Encoder
from .model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """What a person wants to know of a fit, and as facts for machines."""

    results: Results
    columns: Results
    facts: Mapping[str, Any]
    figure: "Figure"

    def files(self) -> dict[str, bytes]:
        """Contents of the report's files by their names."""
        text = f"{tables.markdown(self.results)}\n![Held-out rows](report.svg)\n\n#{tables.markdown(self.columns)}"
        facts = json.dumps(self.facts, indent=1, allow_nan=False) + "\n"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font does not have
            images = {f"report.{form}": figures.figure_as_bytes(self.figure, form) for form in ("png", "svg")}
        return {"report.md": text.encode(), "report.json": facts.encode(), **images}


def make_report(
    model: Model,
    split: metrics.Split,
    rows: Sequence[Mapping[str, Any]],
    rises: Mapping[str, float],
    notes: Sequence[str],
    plan: Mapping[str, Any],
) -> Report:
    """The report of a fit. rows: of each model; rises: the importance of each column; plan: what was chosen."""
    name, encoder = model.target.name, model.encoder
    form = metrics.error_format(rows)
    output = metrics.predict(model.estimator, split.x_test)
    figure = plots.plot_predictions(name, tuple(model.target.classes), split.y_test, output)
    beside = [baselines.baseline_note(split)] if len(rows) > 1 else []
    lines = [
        _sizes_note(split, encoder),
        *baselines.underperformance_warning(split, rows[0]),
        *metrics.small_sample_warning(len(split.y_test)),
        *beside,
        *_left_out(encoder),
        *notes,
        *importance_note(rises, split, form),
    ]
    ends = {"size": ("weights or leaves", "{0[count]:,}"), "seconds": ("sec", "{:.1f}")}
    headings = {"model": ("model", ""), **metrics.headings(rows), **ends}
    facts = {
        "target": asdict(model.target),
        "task": "classification" if model.target.classes else "regression",
        "rows": [dict(row) for row in rows],
        "train_rows": len(split.y),
        "test_rows": len(split.y_test),
        "notes": lines,
        "importance": rises,
        "columns": {column.name: {"kind": column.kind, "inputs": column.inputs} for column in encoder.columns},
        "dropped": dict(encoder.dropped),
        "plan": plan,
        "versions": dict(versions()),
    }
    results = Results(f"{name}: predictions of held-out rows", headings, rows, lines)
    return Report(results, _columns_table(model, rises, split, form), facts, figure)


def _sizes_note(split: metrics.Split, encoder: Encoder) -> str:
    columns, inputs = len(encoder.columns), len(encoder.inputs)
    return (
        f"{len(split.y):,} rows to train on, {len(split.y_test):,} held out; "
        f"{columns:,} column{'s' * (columns > 1)} became {inputs:,} input{'s' * (inputs > 1)}"
    )


def _left_out(encoder: Encoder) -> list[str]:
    return [f"column {name!r} is left out: {why}" for name, why in encoder.dropped.items()]


def _describe_importance(split: metrics.Split) -> str:
    """What an importance is, and its unit."""
    error = "log loss (in nats)" if split.classes else "RMSE"
    sampled = f" among {metrics.IMPORTANCE_ROWS:,} of them, drawn at random" * (
        len(split.y_test) > metrics.IMPORTANCE_ROWS
    )
    return f"rise of the {error} of held-out rows when the column is shuffled{sampled}"


def importance_note(rises: Mapping[str, float], split: metrics.Split, form: str) -> list[str]:
    """A note on the columns that matter most, or on why they are not known."""
    if not rises:
        return [f"what matters most is not measured with more than {metrics.IMPORTANCE_COLUMNS} columns"]
    first = "; ".join(f"{name} {rise:{form}}" for name, rise in list(rises.items())[:5] if rise > 0)
    return [f"what matters most ({_describe_importance(split)}): {first or 'no column, as the error rises with none'}"]


def _columns_table(model: Model, rises: Mapping[str, float], split: metrics.Split, form: str) -> Results:
    """What became of each column, the most important first."""
    rows: list[dict[str, Any]] = [
        {
            "column": _escape(column.name),
            "kind": f"{column.kind} {column.form}" if isinstance(column, Date) else column.kind,
            "inputs": len(column.inputs),
            "rise": rises.get(column.name),
        }
        for column in model.encoder.columns
    ]
    rows.sort(key=lambda row: -(row["rise"] or 0.0))
    rows += [{"column": _escape(name), "kind": f"left out: {why}"} for name, why in model.encoder.dropped.items()]
    headings = {
        "column": ("column", ""),
        "kind": ("kind", ""),
        "inputs": ("inputs", "{}"),
        "rise": ("importance", f"{{:z{form}}}"),
    }
    return Results(
        "Columns",
        headings,
        rows,
        [f"importance: {_describe_importance(split)}" if rises else importance_note({}, split, form)[0]],
    )


def _escape(name: str) -> str:
    """A name that cannot break a table of Markdown."""
    return " ".join(name.split()).replace("|", "\\|")
