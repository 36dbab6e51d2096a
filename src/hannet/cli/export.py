"""`hannet export`: a saved model as files that run without PyTorch."""

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import AsJson

if TYPE_CHECKING:
    from ..export import ExportReport

Dtype = Literal["float32", "int16", "int8"]


def export(
    model: Annotated[Path, typer.Argument(help="The folder that `fit`, `train images` or `save_pretrained` wrote.")],
    to: Annotated[
        Literal["onnx", "c", "wasm", "web"],
        typer.Option(
            help="onnx: one file; c: a folder of C99 without dependencies; wasm: the same C as WebAssembly, with a wrapper; "
            "web: one HTML page that runs it."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder to write.  [default: MODEL.onnx, NAME-c, NAME-wasm or MODEL.html]"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What all names in C begin with; the page's title.  [default: that of the folder]"),
    ] = None,
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Type of the weights (not for ONNX). With integers the largest error is proven, and networks can certify."
        ),
    ] = "float32",
    bounds: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            help="Where the features of a network in integers lie; tables and images know it.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export wrote.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not run the result to compare it with the model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, C, WebAssembly or a web page; run it on rows, usual and unusual, and compare before anything is written."""
    from ..export import to_c, to_onnx, to_wasm, to_web

    folder, loaded = model.resolve().name, load_model(model)
    checks: dict[str, Any] = {"verified": not no_verify, "force": force}
    if to == "onnx":
        for given, what in ((name, "--name"), (bounds, "--range"), (None if dtype == "float32" else dtype, "--dtype")):
            if given is not None:
                raise typer.BadParameter("this is not for --to onnx", param_hint=what)
        report = to_onnx(loaded, out or Path(f"{folder}.onnx"), **checks)
    else:
        checks |= {"dtype": dtype, "bounds": _bounds(bounds)}
        if to == "web":
            report = to_web(loaded, out or Path(f"{folder}.html"), title=name or folder, **checks)
        else:
            prefix = name if name is not None else re.sub(r"\W", "_", folder, flags=re.ASCII)
            write = to_c if to == "c" else to_wasm
            report = write(loaded, out or Path(f"{name or folder}-{to}"), name=prefix, **checks)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        _print_report(report, to)


def _print_report(report: "ExportReport", to: str) -> None:
    print(*report.lines(), f"Saved: {', '.join(report.files)}", sep="\n")
    if to == "c":
        folder = shlex.quote(str(Path(report.files[0]).parent))
        print(f"Test on a machine: cmake -S {folder} -B build && cmake --build build && ctest --test-dir build")


def _bounds(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"must be two numbers such as -3,3, got {text!r}", param_hint="--range") from None
    return low, high


def load_model(folder: Path) -> Any:
    """What `hannet fit`, `hannet train images`, `save` or `save_pretrained` wrote there.

    Raises ExportError for what is no folder, and the error of its kind of model for one that is damaged.
    """
    from .. import models
    from ..export import ExportError
    from ..models.hub import CONFIG

    if not folder.is_dir():
        raise ExportError(
            f"{folder} is no folder: a model is a folder that `hannet fit`, `hannet train` or `save` wrote"
        )
    if (folder / "table.json").exists():
        from ..tabular.model import Model

        return Model.load(folder)
    if (folder / "estimator.json").exists():
        from ..estimators import base

        return base.load(folder)
    if not (folder / CONFIG).exists():
        raise ExportError(
            f"{folder} holds no model: it has none of table.json, estimator.json and {CONFIG}, one of which "
            "`hannet fit`, `hannet train` or `save` writes"
        )
    from ..vision import preprocessing
    from ..vision.export_source import ImageClassifier

    if (folder / preprocessing.FILE).exists():
        return ImageClassifier(models.load(folder).float(), preprocessing.Preprocessing.load(folder))
    return models.load(folder)
