"""`hannet export`: a saved model as files that run without PyTorch."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

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

    folder = model.resolve().name
    if to == "onnx":
        if name is not None:
            raise typer.BadParameter("names in C; ONNX has none to name", param_hint="--name")
        report = to_onnx(model, out or Path(f"{folder}.onnx"), verified=not no_verify, force=force)
    else:
        prefix = name if name is not None else re.sub(r"\W", "_", folder, flags=re.ASCII)
        report = to_c(model, out or Path(f"{folder}-c"), name=prefix, verified=not no_verify, force=force)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
        return
    print(*report.lines(), f"Saved: {', '.join(report.files)}", sep="\n")
