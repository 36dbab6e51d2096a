"""The command `hannet`. Each command imports what only it needs inside itself."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

try:
    import typer
except ImportError as missing:
    raise SystemExit("hannet: its commands need a few more packages: pip install 'hannet[experiments]'") from missing

from .attack import attack
from .certify import certify
from .console import exit_with_error
from .data import get_data, list_data
from .export import export
from .fit import fit
from .info import info
from .options import Command
from .predict import predict
from .report import report
from .reproduce import reproduce
from .runs import runs
from .start import show_start
from .train import images


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        print(f"hannet {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Han-layers, y = |H(u) x + b|, and the experiments of their paper."""
    if context.invoked_subcommand is None:
        show_start()


def main(on_start: Callable[[], None] | None = None) -> None:
    """Run a command. A fault ends in one sentence: exit code 2 if the command line is at fault, else 1; Ctrl-C is 130, SIGTERM 143.

    on_start: called when the work of a command begins.
    """
    try:
        sys.exit(app(prog_name="hannet", standalone_mode=False, obj=on_start))
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # not public; typer itself recognises it so
            print(error.format_message(), file=sys.stderr)
            sys.exit(error.exit_code)
        exit_with_error(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        exit_with_error("interrupted", 130)
    except ModuleNotFoundError as error:
        exit_with_error(f"this command needs the package {error.name}: pip install 'hannet[all]'", 1)
    except Exception as error:
        code = next((code for kind, code in _user_errors() if isinstance(error, kind)), None)
        if code is None:
            raise
        exit_with_error(str(error), code)


ERRORS = {  # whose message is one sentence for the user: the module of each, and the exit code
    "CertificateError": ("certify", 1),
    "DataError": ("data", 1),
    "ExportError": ("export.program", 1),
    "ModelError": ("estimators.serialization", 1),
    "ModelFolderError": ("models", 1),
    "ReportError": ("reporting.html", 1),
    "StoreError": ("storage.files", 1),
    "SweepError": ("experiments.work_queue", 1),
    "TerminatedError": ("train.errors", 143),
}


def _user_errors() -> Iterator[tuple[type[Exception], int]]:
    """Those of ERRORS that can have been raised: the modules of the others are not loaded."""
    for name, (module, code) in ERRORS.items():
        if loaded := sys.modules.get(f"hannet.{module}"):
            yield getattr(loaded, name), code


CommandTable = list[tuple[Callable[..., None], str, str | None, str]]
COMMANDS: CommandTable = [  # function, name, its line in the list of commands (None: its docstring's first), example
    (reproduce, "reproduce", "Reproduce a figure or table of the paper.", "figure1 --seeds 5"),
    (runs, "runs", "List, filter and export results.", "results/figure1 --where seed=0 --sort -test_accuracy"),
    (attack, "attack", "How far do small changes fool a classifier?", "hannet-models/mnist-hannet --norm l2 --eps 1"),
    (certify, "certify", "How far can no change fool it? Proved.", "hannet-models/mnist-hannet --radii 0.5,1.58"),
    (fit, "fit", "Train a model that predicts a column of a table.", "houses.csv --target price"),
    (predict, "predict", "Predict rows of a table, or classify images.", "hannet-models/houses new.csv"),
    (export, "export", "Write a model as ONNX, C, WebAssembly or a web page.", "hannet-models/houses --to c"),
    (report, "report", "One page of what a folder holds, to read or print.", "hannet-models/houses --open"),
    (info, "info", "Versions, devices, and which code runs.", "--json"),
]
TRAIN: CommandTable = [(images, "images", None, "photos/ --model han-mixer --size 64 --epochs 30")]
DATA: CommandTable = [(list_data, "list", None, "--json"), (get_data, "get", None, "bikesharing mnist")]


def _group(commands: CommandTable, parent: str = "", **options: Any) -> typer.Typer:
    group = typer.Typer(no_args_is_help=bool(parent), rich_markup_mode=None, **options)
    for command, name, short_help, arguments in commands:
        example = f"Example: hannet {parent}{name} {arguments}"
        group.command(name, cls=Command, short_help=short_help, epilog=example)(command)
    return group


app = _group(
    COMMANDS,
    callback=_options,
    epilog="Example: hannet fit houses.csv --target price. Each command has more: hannet fit --help",
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "color": False if os.environ.get("NO_COLOR") else None,  # None: where there is a terminal
    },
)
app.add_typer(
    _group(TRAIN, "train ", help="Train a network and save it as a folder."),
    name="train",
    short_help="Train a classifier of images.",
    epilog="Example: hannet train images mnist --model hannet --lipschitz",
)
app.add_typer(
    _group(DATA, "data ", help="Data sets of the paper's experiments: what they are, and how to get them."),
    name="data",
    short_help="Show and fetch data sets.",
    epilog="Example: hannet data list",
)
