"""`hannet predict`: predictions for the rows of a table, classes of images."""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..reporting.text import without_formula
from .console import exit_with_error, print_table, say
from .options import AsJson, reject_output
from .table_options import Encoding, Header, Skip, reading_options, table_name

if TYPE_CHECKING:
    from pandas import DataFrame

    from ..vision.inference import Classified

STDOUT = Path("-")


def predict(
    model: Annotated[Path, typer.Argument(help="The folder that `hannet fit` or `hannet train images` saved.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(help="A table with the columns that the model was trained on, - is standard input; or images."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to write; for a table, - is standard output.  [default: NAME-predictions.csv]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    safe_csv: Annotated[
        bool, typer.Option("--safe-csv", help="Put an apostrophe before cells that a spreadsheet takes for formulas.")
    ] = False,
    header: Header = None,
    skip: Skip = None,
    encoding: Encoding = None,
    as_json: AsJson = False,
) -> None:
    """Predict: write the table as CSV with the predictions in added columns; if it holds the true values, also measure.

    With a classifier of images: print the most probable classes of every image, or of every image in a folder.
    """
    from ..vision.inference import is_classifier

    if out == STDOUT and (as_json or is_classifier(model)):
        raise typer.BadParameter("standard output is used for something else here: name a file", param_hint="--out")
    if is_classifier(model):
        path = _output_path(out, inputs[0], force=force) if out else None
        _classify_pictures(model, inputs, path, as_json=as_json, safe_csv=safe_csv)
    elif len(inputs) > 1:
        raise typer.BadParameter("a model for tables takes one table at a time", param_hint="inputs")
    else:
        path = None if out == STDOUT else _output_path(out, inputs[0], force=force)
        reading = reading_options(header, skip, encoding)
        _predict_table(model, inputs[0], reading, path, as_json=as_json, safe_csv=safe_csv)


def _output_path(out: Path | None, table: Path, *, force: bool) -> Path:
    path = out or Path(f"{table_name(table)}-predictions.csv")
    faults = {
        f"{path} is a folder": path.is_dir(),
        f"{path} would be in a folder that does not exist": not path.parent.is_dir(),
        f"{path} is the table itself": path.exists() and table.exists() and path.samefile(table),
        f"{path} exists already: --force replaces it, --out names another": path.exists() and not force,
    }
    reject_output(faults)
    return path


def _classify_pictures(model: Path, inputs: Sequence[Path], out: Path | None, *, as_json: bool, safe_csv: bool) -> None:
    """A broken picture is named at the end, and the command fails; the others are classified all the same."""
    from ..storage.files import write_atomic
    from ..vision import inference

    classified, faults, notes = inference.classify(model, inputs)
    if out:  # names of files as they are, even if they are no text
        write_atomic(out, inference.to_csv(classified, safe=safe_csv).encode(errors="surrogateescape"))
    if as_json:
        rows = [row._asdict() | {"picture": str(row.picture)} for row in classified]
        print(json.dumps({"pictures": rows, "faults": faults, "notes": notes}, allow_nan=False))
    elif classified:
        _show_classes(classified)
        say(*(f"Note: {note}" for note in notes))
        if out:
            say(f"{len(classified):,} picture{'s' * (len(classified) > 1)} classified. Saved: {out}")
    if faults:
        more = f", and {len(faults) - 1:,} more (all with --json)" if len(faults) > 1 else ""
        exit_with_error(f"{faults[0]}{more}", 1)


def _show_classes(classified: "Sequence[Classified]") -> None:
    from rich.box import SIMPLE_HEAD

    lines = []
    for row in classified:
        first, *others = (f"{p:.1%}" for p in row.probabilities)
        alternatives = ", ".join(f"{name} {p}" for name, p in zip(row.classes[1:], others, strict=True))
        lines.append((os.fsencode(row.picture).decode(errors="replace"), row.classes[0], first, alternatives))
    print_table(("picture", "class", "probability", "or else"), lines, box=SIMPLE_HEAD, pad_edge=False)


def without_formulas(cells: "DataFrame") -> "DataFrame":
    """The table in which no cell and no heading is a formula to a spreadsheet."""
    return cells.map(lambda cell: without_formula(cell) if isinstance(cell, str) else cell).rename(
        columns=without_formula
    )


def _write_stdout(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_with_error(f"standard output cannot be written ({error.strerror})", 1)


def _predict_table(
    model: Path, table: Path, reading: dict[str, Any], path: Path | None, *, as_json: bool, safe_csv: bool
) -> None:
    """path: None for standard output, so that the report goes to standard error."""
    from ..storage.files import write_atomic
    from ..tabular.metrics import headings
    from ..tabular.model import Model
    from ..tabular.readers import read

    fitted = Model.load(model)
    if reading["header"] is None and not fitted.header:
        reading["header"] = False
    names = {*fitted.encoder.groups, fitted.target.name}
    prediction = fitted.predict(read(table, columns=names, **reading))
    cells = without_formulas(prediction.cells) if safe_csv else prediction.cells
    content, rows, metrics = cells.to_csv(index=False).encode(), len(cells), prediction.metrics
    if path:
        write_atomic(path, content)
    else:
        _write_stdout(content)
    if as_json:
        facts = {"rows": rows, "file": str(path), "metrics": metrics, "notes": list(prediction.notes)}
        print(json.dumps(facts, allow_nan=False))
        return
    report = partial(say, to_stderr=not path)
    for note in prediction.notes:
        report(note.replace("warning: ", "Warning: ", 1) if note.startswith("warning: ") else f"Note: {note}")
    if metrics:
        shown = {name: heading for name, heading in headings([metrics]).items() if metrics[name] is not None}
        report(", ".join(f"{heading} {form.format(metrics[name])}" for name, (heading, form) in shown.items()))
    report(f"{rows:,} row{'s' * (rows > 1)} predicted.{f' Saved: {path}' if path else ''}")
