"""`hannet export`: a saved model as files that run without PyTorch."""

import json
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import AsJson


def export(
    model: Annotated[Path, typer.Argument(help="The folder that `fit`, `train images` or `save_pretrained` wrote.")],
    to: Annotated[Literal["onnx", "c"], typer.Option(help="onnx: one file; c: a folder of C99 without dependencies.")],
    out: Annotated[Path | None, typer.Option(help="File or folder to write.  [default: NAME.onnx, or NAME-c]")] = None,
    name: Annotated[
        str | None, typer.Option(help="What all names in C begin with.  [default: that of the folder]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export wrote.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not run the result to compare it with the model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX or C; run it on rows, usual and unusual, and compare with the model before anything is written."""
    from ..export import to_c, to_onnx

    folder, loaded = model.resolve().name, load_model(model)
    if to == "onnx":
        if name is not None:
            raise typer.BadParameter("names in C; ONNX has none to name", param_hint="--name")
        report = to_onnx(loaded, out or Path(f"{folder}.onnx"), verified=not no_verify, force=force)
    else:
        prefix = name if name is not None else re.sub(r"\W", "_", folder, flags=re.ASCII)
        report = to_c(loaded, out or Path(f"{folder}-c"), name=prefix, verified=not no_verify, force=force)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
        return
    print(*report.lines(), f"Saved: {', '.join(report.files)}", sep="\n")
    if to == "c":
        folder = shlex.quote(str(Path(report.files[0]).parent))
        print(f"Test on a machine: cmake -S {folder} -B build && cmake --build build && ctest --test-dir build")


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
