"""The command `hannet`. Each command imports what only it needs inside itself."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    import typer
except ImportError as missing:
    raise SystemExit("hannet: its commands need a few more packages: pip install 'hannet[experiments]'") from missing

from .console import exit_with_error, progress_bar, stdout_console
from .data import data
from .reproduce import reproduce, runs
from .attack import attack, certify
from .train import train

if TYPE_CHECKING:
    from ..tabular.pipeline import Plan, Report

Task = Literal["regression", "classification"]
STDOUT = Path("-")
Missing = Annotated[
    str,
    typer.Option(
        metavar="WORDS",
        help="What stands for a missing value, in any case, with commas between; an empty cell always does, and with "
        '"" nothing else. The word default is short for: NA,N/A,#N/A,<NA>,nan,NaT,null,?,-,--, and among numbers and '
        "dates none.",
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    epilog="Example: hannet fit houses.csv --target price. Each command has more: hannet fit --help",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        print(f"hannet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Han-layers, y = |H(u) x + b|, and the experiments of their paper."""


def main() -> None:
    """Run a command. A fault ends in one sentence: exit code 2 if the command line is at fault, else 1; Ctrl-C is 130, SIGTERM 143."""
    from ..certify import CertificateError
    from ..data import DataError
    from ..estimators.serialization import ModelError
    from ..experiments.work_queue import SweepError
    from ..models import ModelFolderError
    from ..storage.files import StoreError
    from ..train.checkpoint import TerminatedError

    try:
        sys.exit(app(prog_name="hannet", standalone_mode=False))
    except typer.TyperException as error:
        exit_with_error(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        exit_with_error("interrupted", 130)
    except (CertificateError, DataError, ModelError, ModelFolderError, StoreError, SweepError) as error:
        exit_with_error(str(error), 1)
    except TerminatedError as error:
        exit_with_error(str(error), 143)
    except ModuleNotFoundError as error:
        exit_with_error(f"this command needs the package {error.name}: pip install 'hannet[all]'", 1)


_REST: list[tuple[Callable[..., None], str, str]] = [
    (reproduce, "A figure or table of the paper, ours beside theirs.", "reproduce figure1 --seeds 5"),
    (
        runs,
        "List, filter and export what experiments gave.",
        "runs results/figure1 --where seed=0 --sort -test_accuracy",
    ),
    (attack, "How far do small changes fool a classifier?", "attack hannet-models/mnist-hannet --norm l2 --eps 1"),
    (certify, "How far can no change fool it? Proved.", "certify hannet-models/mnist-hannet --radii 0.5,1.58"),
]
for verb, short, example in _REST:
    app.command(short_help=short, epilog=f"Example: hannet {example}")(verb)
app.add_typer(
    train,
    name="train",
    short_help="Train a classifier of images.",
    epilog="Example: hannet train images mnist --model hannet --lipschitz",
)
app.add_typer(data, name="data", short_help="Show and fetch data sets.", epilog="Example: hannet data list")


@app.command(short_help="Learn to predict a column of a table.", epilog="Example: hannet fit houses.csv --target price")
def fit(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help="A .csv, .tsv or .parquet file; .gz too.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    task: Annotated[Task | None, typer.Option(help="What to predict.  [default: as the target asks]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model.  [default: hannet-models/NAME]")] = None,
    test: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of rows held out to measure on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the rows held out and of the training.")] = 0,
    members: Annotated[int | None, typer.Option(min=1, help="Networks to train side by side and average.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows, at most.")] = None,
    missing: Missing = "default",
    no_baselines: Annotated[bool, typer.Option("--no-baselines", help="Train no other models beside.")] = False,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Columns have no names: call them c0, c1, ...")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Learn to predict a column of a table; measure it on held-out rows beside other models; save model and report."""
    from ..tabular.pipeline import Plan
    from .console import rich_table, stdout_console

    folder = out or Path("hannet-models", _stem(table))
    context.with_resource(_alone(folder, force=force))
    chosen = {"members": members, "epochs": epochs}
    options = {name: value for name, value in chosen.items() if value is not None}
    words = [word.strip() for word in missing.split(",") if word.strip()]
    if not missing.isprintable():
        raise typer.BadParameter(f"must be words of text, got {missing!r}", param_hint="--missing")
    plan = Plan(target, task, test, seed, not no_header, not no_baselines, words, options)
    told, files = _learn(table, plan, folder)
    if as_json:
        print(json.dumps({**told.facts, "folder": str(folder)}, allow_nan=False))
        return
    stdout_console().print(rich_table(told.results))
    print(f"Saved in {folder}: the model, {', '.join(files)}")
    print(f"Predict with: hannet predict {shlex.quote(str(folder))} NEW.csv")


@contextmanager
def _alone(folder: Path, *, force: bool) -> Iterator[None]:
    """Keep others from training for a folder, which is free to be written, as long as the command runs."""
    from ..storage import model_dir

    _require_free(folder, force=force)
    with model_dir.exclusive_lock(folder):
        _require_free(folder, force=force)  # another training may have filled it in between
        yield


def _require_free(folder: Path, *, force: bool) -> None:
    from ..storage.files import StoreError
    from ..tabular.model import require_free

    try:
        require_free(folder, force=force)
    except StoreError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error


def _learn(path: Path, plan: "Plan", folder: Path) -> "tuple[Report, list[str]]":
    """The report, and names of its files, once the model is in the folder."""
    from ..tabular.pipeline import fit
    from ..tabular.readers import read

    try:
        with progress_bar() as on_progress:
            model, told = fit(read(path, header=plan.header), plan, on_progress)
        files = told.files()
        model.save(folder, files)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)
    return told, list(files)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".tsv").removesuffix(".parquet")


def _output(out: Path | None, table: Path, *, force: bool) -> Path:
    path = out or Path(f"{_stem(table)}-predictions.csv")
    faults = {
        "is a folder": path.is_dir(),
        "would stand in a folder that does not exist": not path.parent.is_dir(),
        "is the table itself": path.exists() and table.exists() and path.samefile(table),
        "is there already: --force replaces it, --out names another": path.exists() and not force,
    }
    for fault, found in faults.items():
        if found:
            raise typer.BadParameter(f"{path} {fault}", param_hint="--out")
    return path


@app.command(
    short_help="Predict rows of a table, or classify pictures.",
    epilog="Example: hannet predict hannet-models/houses new.csv",
)
def predict(
    model: Annotated[Path, typer.Argument(help="The folder that `hannet fit` or `hannet train images` saved.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="A table with the columns that the model learned from; or pictures.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to write; of a table, - for standard output.  [default: NAME-predictions.csv]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict: write the table as CSV, the predictions as further columns; with true values in it, also measure.

    With a classifier of images: print the most probable classes of every picture, or of every picture in a folder.
    """
    from ..vision.inference import classify, is_classifier

    if out == STDOUT and (as_json or is_classifier(model)):
        raise typer.BadParameter("standard output has other contents here: name a file", param_hint="--out")
    if is_classifier(model):
        classify(model, inputs, _output(out, inputs[0], force=force) if out else None, as_json=as_json)
    elif len(inputs) > 1:
        raise typer.BadParameter("a model for tables takes one table at a time", param_hint="inputs")
    else:
        path = None if out == STDOUT else _output(out, inputs[0], force=force)
        _predict_table(model, inputs[0], path, as_json=as_json)


def _pour(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_with_error(f"standard output cannot be written ({error.strerror})", 1)


def _predict_table(model: Path, table: Path, path: Path | None, *, as_json: bool) -> None:
    """path: None for standard output, so that what is told goes to standard error."""
    from ..storage.files import write_atomic
    from ..tabular.metrics import headings
    from ..tabular.model import Model
    from ..tabular.readers import read

    fitted = Model.load(model)
    told = fitted.predict(read(table, header=fitted.header))
    content = told.cells.to_csv(index=False)
    if path:
        write_atomic(path, content.encode())
    else:
        _pour(content.encode())
    if as_json:
        facts = {"rows": len(told.cells), "file": str(path), "metrics": told.metrics, "notes": list(told.notes)}
        print(json.dumps(facts, allow_nan=False))
        return
    say = partial(print, file=sys.stdout if path else sys.stderr)
    for note in told.notes:
        say(f"Note: {note}")
    if told.metrics:
        shown = {name: head for name, head in headings([told.metrics]).items() if told.metrics[name] is not None}
        say(", ".join(f"{heading} {form.format(told.metrics[name])}" for name, (heading, form) in shown.items()))
    say(f"{len(told.cells):,} row{'s' * (len(told.cells) > 1)} predicted.{f' Saved: {path}' if path else ''}")


@app.command(short_help="Versions, devices, and which code runs.", epilog="Example: hannet info --json")
def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, threads and devices, and which implementation runs for each device and dtype, and why."""
    import torch
    from rich.table import Table

    from ..ops import dispatch
    from ..storage.provenance import commit, describe_device, versions

    devices = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    facts: dict[str, Any] = {
        "versions": dict(versions()),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "devices": [describe_device(), *devices],
    }
    paths = [[str(part) for part in line] for line in dispatch.kernel_choices()]
    if as_json:
        keys = ("device", "dtype", "path", "reason")
        print(json.dumps(facts | {"paths": [dict(zip(keys, line, strict=True)) for line in paths]}))
        return
    print("versions:", ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print("commit:  ", facts["commit"] or "not in a checkout")
    print("devices: ", "; ".join(facts["devices"]))
    print("threads: ", facts["threads"])
    table = Table("device", "dtype", "path", "why")
    for line in paths:
        table.add_row(*line)
    stdout_console().print(table)
