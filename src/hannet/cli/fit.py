"""`hannet fit`: a model that predicts a column of a table."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from .console import command_line, exit_with_error, rich_table, stdout_console
from .progress_bar import progress_bar
from .table_options import TABLE_HELP, Encoding, Header, Skip, reading_options, table_name

if TYPE_CHECKING:
    from ..tabular.encoders import Kind
    from ..tabular.options import FitOptions
    from ..tabular.report import Report

Task = Literal["regression", "classification"]
Missing = Annotated[
    str,
    typer.Option(
        metavar="WORDS",
        help="What stands for a missing value, in any case, separated by commas; an empty cell always does, and with "
        '"" nothing else. The word default is short for: NA,N/A,#N/A,<NA>,nan,NaT,null,?,-,--, and among numbers and '
        "dates none, unknown, #REF!, (null) and many more.",
    ),
]
Drop = Annotated[
    list[str] | None, typer.Option(metavar="COLUMNS", help="Leave out columns: names with commas between, or repeat.")
]
KindOf = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=KIND", help="Read a column as number, category, date or text; repeat for more."),
]
Group = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Hold out all rows of equal values of this column, or none.")
]
Time = Annotated[
    str | None,
    typer.Option("--time", metavar="COLUMN", help="Hold out the last rows by this column of dates or numbers."),
]
Weights = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="What each row counts, in training and in all that is measured.")
]
ClassWeight = Annotated[
    Literal["balanced"] | None, typer.Option(help="balanced: classes count alike in training, however rare.")
]


def fit(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    task: Annotated[Task | None, typer.Option(help="What to predict.  [default: depends on the target]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model.  [default: hannet-models/NAME]")] = None,
    test: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of rows held out to measure on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the rows held out and of the training.")] = 0,
    members: Annotated[int | None, typer.Option(min=1, help="Networks to train side by side and average.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows, at most.")] = None,
    missing: Missing = "default",
    drop: Drop = None,
    kind: KindOf = None,
    group: Group = None,
    by_time: Time = None,
    weights: Weights = None,
    class_weight: ClassWeight = None,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Train no other models to compare with.")
    ] = False,
    header: Header = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="The same as --header no.")] = False,
    skip: Skip = None,
    encoding: Encoding = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a model that predicts a column of a table; compare it with other models on held-out rows; save model and report."""
    from ..storage import model_dir
    from ..tabular.model import PARTS, REPORT
    from ..tabular.options import FitOptions

    folder = out or Path("hannet-models", table_name(table))
    context.with_resource(model_dir.reserve(folder, PARTS, REPORT, force=force))
    chosen = {"members": members, "epochs": epochs}
    if no_header and header == "yes":
        raise typer.BadParameter("contradicts --header yes", param_hint="--no-header")
    reading = reading_options("no" if no_header else header, skip, encoding)
    plan = FitOptions(
        target=target,
        task=task,
        test=test,
        seed=seed,
        header=reading["header"] is not False,
        baselines=not no_baselines,
        missing=_words(missing),
        options={name: value for name, value in chosen.items() if value is not None},
        drop=drop or (),
        group=group,
        time=by_time,
        weights=weights,
        class_weight=class_weight,
        kinds=_kinds(kind or ()),
    )
    report, files = _train(table, reading, plan, folder)
    _show(report, folder, files, as_json=as_json)


def _show(report: "Report", folder: Path, files: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**report.facts, "folder": str(folder)}, allow_nan=False))
        return
    for shown in (report.results, *([report.classes] if report.classes else [])):
        stdout_console().print(rich_table(shown))
    print(f"Saved in {folder}: the model, {', '.join(files)}")
    print(f"Predict with: hannet predict {shlex.quote(str(folder))} NEW.csv")


def _words(missing: str) -> list[str]:
    """What `--missing` says."""
    if not missing.isprintable():
        raise typer.BadParameter(f"must be words of text, got {missing!r}", param_hint="--missing")
    return [word.strip() for word in missing.split(",") if word.strip()]


def _kinds(words: Sequence[str]) -> "dict[str, Kind]":
    """What `--kind` says of each column."""
    from ..tabular.encoders import Kind

    kinds: dict[str, Kind] = {}
    for word in words:
        column, _, kind = word.rpartition("=")
        if not column or kind not in get_args(Kind):
            choices = ", ".join(get_args(Kind))
            raise typer.BadParameter(f"must be COLUMN=KIND with one of {choices}, got {word!r}", param_hint="--kind")
        kinds[column] = cast("Kind", kind)
    return kinds


def _train(path: Path, reading: dict[str, Any], plan: "FitOptions", folder: Path) -> "tuple[Report, list[str]]":
    """The report, and the names of its files, once the model is in the folder."""
    from ..tabular.pipeline import fit
    from ..tabular.readers import MAX_BYTES, read

    try:
        with progress_bar() as on_progress:
            table = read(path, target=plan.target, max_bytes=MAX_BYTES, **reading)
            model, report = fit(table, plan, on_progress)
        report = replace(report, facts={**report.facts, "command": command_line()})
        files = report.files(str(folder))
        model.save(folder, files)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)
    return report, list(files)
