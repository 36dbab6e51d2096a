"""`hannet fit`: a model that predicts a column of a table."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from .console import exit_with_error, rich_table, stdout_console
from .progress_bar import progress_bar

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
Header = Annotated[
    Literal["yes", "no"] | None,
    typer.Option(
        help="Whether the first line names the columns, else c0, c1, ...  [default: unless it is all numbers]"
    ),
]
Skip = Annotated[int | None, typer.Option(min=0, help="Lines before the table.  [default: found out]")]
Encoding = Annotated[str | None, typer.Option(help="Of text, such as cp1252 or utf-16.  [default: found out]")]
TABLE_HELP = "Text with separators, Parquet, JSON lines or a spreadsheet; .gz and .zip too; - is standard input."
ENDINGS = (
    *(".gz", ".bz2", ".xz", ".zip"),
    *(
        ".csv",
        ".tsv",
        ".tab",
        ".txt",
        ".dat",
        ".data",
        ".parquet",
        ".json",
        ".jsonl",
        ".ndjson",
        ".xlsx",
        ".xls",
        ".ods",
    ),
)


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
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMNS", help="Leave out columns: names with commas between, or repeat."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=KIND", help="Read a column as number, category, date or text; repeat for more."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Hold out all rows of equal values of this column, or none.")
    ] = None,
    by_time: Annotated[
        str | None,
        typer.Option("--time", metavar="COLUMN", help="Hold out the last rows by this column of dates or numbers."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What each row counts, in training and in all that is measured."),
    ] = None,
    class_weight: Annotated[
        Literal["balanced"] | None, typer.Option(help="balanced: classes count alike in training, however rare.")
    ] = None,
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
    options = {name: value for name, value in chosen.items() if value is not None}
    words = [word.strip() for word in missing.split(",") if word.strip()]
    if not missing.isprintable():
        raise typer.BadParameter(f"must be words of text, got {missing!r}", param_hint="--missing")
    if no_header and header == "yes":
        raise typer.BadParameter("contradicts --header yes", param_hint="--no-header")
    names = False if no_header else header_choice(header)
    plan = FitOptions(
        target, task, test, seed, names is not False, not no_baselines, words, options,
        drop or (), group, by_time, weights, class_weight, _kinds(kind or ()),
    )  # fmt: skip
    report, files = _train(table, {"header": names, "skip": skip, "encoding": encoding}, plan, folder)
    if as_json:
        print(json.dumps({**report.facts, "folder": str(folder)}, allow_nan=False))
        return
    for shown in (report.results, *([report.classes] if report.classes else [])):
        stdout_console().print(rich_table(shown))
    print(f"Saved in {folder}: the model, {', '.join(files)}")
    print(f"Predict with: hannet predict {shlex.quote(str(folder))} NEW.csv")


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


def header_choice(header: str | None) -> bool | None:
    """What --header says, for `read`."""
    return None if header is None else header == "yes"


def _train(path: Path, reading: dict[str, Any], plan: "FitOptions", folder: Path) -> "tuple[Report, list[str]]":
    """The report, and the names of its files, once the model is in the folder."""
    from ..tabular.pipeline import fit
    from ..tabular.readers import MAX_BYTES, read

    try:
        with progress_bar() as on_progress:
            table = read(path, target=plan.target, max_bytes=MAX_BYTES, **reading)
            model, report = fit(table, plan, on_progress)
        files = report.files()
        model.save(folder, files)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)
    return report, list(files)


def table_name(path: Path) -> str:
    """The name of a table's file without its endings."""
    name = path.name
    while name.lower().endswith(ENDINGS):
        name = name[: name.rindex(".")]
    return "table" if name in ("", "-") else name
