"""The report of a fitted model: tables, notes, facts, and a figure."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..reporting import figures, tables
from ..reporting.text import escape_markdown
from ..storage.provenance import commit, describe_device, versions
from . import baselines, card, metrics, page, plots
from .columns import Date
from .encoders import Encoder
from .leaks import leak_notes
from .model import Model

FEW_CLASSES = 10  # that many have a table of their own, more only if they are imbalanced
IMBALANCED = 5  # times as many training rows of one class as of another


@dataclass(frozen=True)
class Findings:
    """What is known of the columns and the rows.

    importances: mean and spread of each column; missing: its missing cells; leaks: columns that tell the target; how rows were held out.
    """

    importances: Mapping[str, tuple[float, float]]
    missing: Mapping[str, int]
    leaks: Mapping[str, float]
    held_out: str
    split: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What a person wants to know of a fit: metrics of each model, what became of each column, all facts as plain values.

    classes: recall and precision of each class, if they are few or imbalanced.
    """

    results: tables.Table
    classes: tables.Table | None
    columns: tables.Table
    facts: Mapping[str, Any]
    figure: figures.Figure

    def files(self, folder: str = "FOLDER") -> dict[str, bytes]:
        """Contents of the report's files by their names; folder: where they will be, for the lines that use the model."""
        classes = f"#{_markdown(self.classes)}\n" if self.classes else ""
        text = f"{_markdown(self.results)}\n![Held-out rows](report.svg)\n\n{classes}#{_markdown(self.columns)}"
        facts = json.dumps(self.facts, indent=1, allow_nan=False) + "\n"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font does not have
            images = {f"report.{form}": figures.figure_as_bytes(self.figure, form) for form in ("png", "svg")}
        html = page.make_page(self.facts, folder, images).render()
        words = {"report.md": text, "report.json": facts, page.FILE: html, card.FILE: card.make_card(self.facts)}
        return {name: content.encode() for name, content in words.items()} | images


def _markdown(table: tables.Table) -> str:
    """The table as Markdown, in which names of columns and classes are shown as they are."""
    shown = [{key: escape_markdown(v) if isinstance(v, str) else v for key, v in row.items()} for row in table.rows]
    notes = [escape_markdown(note) for note in table.notes]
    return tables.markdown(tables.Table(escape_markdown(table.title), table.columns, shown, notes))


def make_report(
    model: Model,
    split: metrics.Split,
    rows: Sequence[Mapping[str, Any]],
    findings: Findings,
    notes: Sequence[str],
    config: Mapping[str, Any],
) -> Report:
    """The report of a fit; rows: the metrics of each model; config: what was chosen."""
    name, encoder = model.target.name, model.encoder
    form = metrics.error_format(rows)
    output = metrics.predict(model.estimator, split.x_test)
    figure = plots.plot_predictions(name, tuple(model.target.classes), split.y_test, output)
    classes = metrics.class_scores(split, output, model.target.classes) if split.classes else []
    recall = metrics.mean_recall(classes) if classes else None
    importances = {column: mean for column, (mean, _) in findings.importances.items()}
    notes = [
        *leak_notes(findings.leaks, name),
        _sizes_note(split, encoder, findings.held_out),
        *baselines.underperformance_warning(split, rows[0], recall),
        *_imbalance_note(split, classes),
        *metrics.small_sample_warning(len(split.y_test)),
        *([baselines.baseline_note(split)] if len(rows) > 1 else []),
        *(f"column {column!r} is left out: {why}" for column, why in encoder.dropped.items()),
        *notes,
        importance_note(importances, split, form),
    ]
    cost = {"size": ("weights or leaves", "{0[count]:,}"), "seconds": ("sec", "{:.1f}")}
    headings = {"model": ("model", ""), **metrics.headings(rows), **cost}
    facts = {
        "target": asdict(model.target),
        "task": "classification" if model.target.classes else "regression",
        "rows": [dict(row) for row in rows],
        "train_rows": len(split.y),
        "test_rows": len(split.y_test),
        "split": dict(findings.split),
        "classes": classes,
        "leaks": dict(findings.leaks),
        "notes": notes,
        "importance": importances,
        "importance_std": {column: spread for column, (_, spread) in findings.importances.items()},
        "importance_of": _describe_importance(split),
        "columns": {
            column.name: {"kind": column.kind, "inputs": column.inputs, "missing": findings.missing[column.name]}
            | ({"form": column.form} if isinstance(column, Date) else {})
            for column in encoder.columns
        },
        "dropped": dict(encoder.dropped),
        "plan": config,
        "versions": dict(versions()),
        "device": describe_device(),
        "commit": commit(),
    }
    results = tables.Table(f"{name}: predictions of held-out rows", headings, rows, notes)
    columns = _columns_table(encoder, importances, split, form)
    return Report(results, _classes_table(classes), columns, facts, figure)


def _is_imbalanced(classes: Sequence[Mapping[str, Any]]) -> bool:
    trained = [row["train_rows"] for row in classes]
    return bool(trained) and max(trained) >= IMBALANCED * min(trained)


def _imbalance_note(split: metrics.Split, classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note where the accuracy says little of a rare class."""
    if not _is_imbalanced(classes):
        return []
    most, least = (choose(classes, key=lambda row: row["train_rows"]) for choose in (max, min))
    shares = " and ".join(f"{row['train_rows'] / len(split.y):.1%} {row['class']!r}" for row in (most, least))
    advice = "" if split.balanced else "; --class-weight balanced lets them count alike"
    return [
        f"classes are imbalanced ({shares} among the rows to train on): the recall of each says more than the accuracy{advice}"
    ]


def _classes_table(classes: Sequence[Mapping[str, Any]]) -> tables.Table | None:
    """Recall and precision of each class, the lowest recall first; None if they are many and balanced."""
    if not classes or (len(classes) > FEW_CLASSES and not _is_imbalanced(classes)):
        return None
    rows = sorted(classes, key=lambda row: 2.0 if row["recall"] is None else row["recall"])
    columns = {
        "class": ("class", ""),
        "train_rows": ("rows trained on", "{:,}"),
        "test_rows": ("rows held out", "{:,}"),
        "recall": ("recall", "{:.4f}"),
        "precision": ("precision", "{:.4f}"),
    }
    notes = [
        "recall: the share of the class's held-out rows that are taken for it; precision: the share of rows taken for it that are right"
    ]
    return tables.Table("HanNet by class", columns, rows, notes)


def _sizes_note(split: metrics.Split, encoder: Encoder, held_out: str) -> str:
    columns, inputs = len(encoder.columns), len(encoder.inputs)
    return (
        f"{len(split.y):,} rows to train on, {len(split.y_test):,} held out {held_out}; "
        f"{columns:,} column{'s' * (columns > 1)} became {inputs:,} input{'s' * (inputs > 1)}"
    )


def _describe_importance(split: metrics.Split) -> str:
    """What an importance is, and its unit."""
    error = "log loss (in nats)" if split.classes else "RMSE"
    limit = metrics.IMPORTANCE_ROWS
    sampled = f" among {limit:,} of them, drawn at random" if len(split.y_test) > limit else ""
    return f"rise of the {error} of held-out rows when the column is shuffled{sampled}"


def importance_note(importances: Mapping[str, float], split: metrics.Split, form: str) -> str:
    """A note on the columns that matter most, or on why they are not known."""
    if not importances:
        return f"what matters most is not measured with more than {metrics.IMPORTANCE_COLUMNS} columns"
    first = "; ".join(f"{name} {rise:{form}}" for name, rise in list(importances.items())[:5] if rise > 0)
    return f"what matters most ({_describe_importance(split)}): {first or 'no column, as the error rises with none'}"


def _columns_table(encoder: Encoder, importances: Mapping[str, float], split: metrics.Split, form: str) -> tables.Table:
    """What became of each column, the most important first."""
    rows: list[dict[str, Any]] = [
        {
            "column": column.name,
            "kind": f"{column.kind} {column.form}" if isinstance(column, Date) else column.kind,
            "inputs": len(column.inputs),
            "importance": importances.get(column.name),
        }
        for column in encoder.columns
    ]
    rows.sort(key=lambda row: -(row["importance"] or 0.0))
    rows += [{"column": name, "kind": f"left out: {why}"} for name, why in encoder.dropped.items()]
    forms = {"column": "", "kind": "", "inputs": "{}", "importance": f"{{:z{form}}}"}
    note = f"importance: {_describe_importance(split)}" if importances else importance_note({}, split, form)
    return tables.Table("Columns", {name: (name, form) for name, form in forms.items()}, rows, [note])
