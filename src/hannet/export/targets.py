"""Models written to files, once the artefact has computed what the model does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.files import write_atomic
from ..storage.model_dir import replace_folder
from . import c99, onnx, verify
from .c99 import Library
from .c_code import translate
from .c_integers import translate_integers
from .program import ExportError, Program
from .quantisation import BITS, quantise
from .sources import BoundedSource, Source, open_source
from .verify import ExportReport, Trial

VECTORS = 24  # rows of the test vectors that are written beside the C


def to_onnx(model: Any, path: str | Path, *, verified: bool = True, force: bool = False) -> ExportReport:
    """Writes an ONNX model, once it has computed the same as the model.

    Args:
        model: a network, a fitted HanRegressor or HanClassifier, or a `hannet.tabular` Model.
        path: of the file to write.
        verified: False leaves the comparison out.
        force: replaces a file that is there.

    Returns:
        What was written, and how far it is from the model.

    Raises:
        ExportError: if the model cannot be exported, the result differs from it, or something is in the way.
    """
    path = Path(path)
    if path.is_dir():
        raise ExportError(f"{path} is a folder: name a file")
    _require_free(path, force=force)
    source = open_source(model)
    made = onnx.to_model(source.program)
    checks = verify.check_onnx(made, verify.trial(source)) if verified else []
    verify.require_passed(checks)
    content = made.SerializeToString()
    write_atomic(path, content)
    facts = {"bytes": len(content), "nodes": len(made.graph.node), "multiply_adds": source.program.multiply_adds}
    return _report("ONNX", source.program, [path], facts, checks)


def to_c(
    model: Any,
    folder: str | Path,
    *,
    name: str = "model",
    dtype: str = "float32",
    bounds: tuple[float, float] | None = None,
    verified: bool = True,
    force: bool = False,
) -> ExportReport:
    """Writes C99 files to a folder, once they have computed the same as the model.

    In integers H(u) stays exactly orthogonal, and the report has a proven bound on the error of any row (`quantisation.py`).

    Args:
        model: as in `to_onnx`.
        folder: to write; it must not exist, or hold what this function wrote if `force`.
        name: what the names of files, functions and types begin with.
        dtype: of weights and biases: "float32", "int16" or "int8".
        bounds: for a network in integers the numbers between which all features lie; others are clipped to them. Images and
            tables know theirs.
        verified: False leaves compiling and comparing out.
        force: replaces what this function wrote there.

    Returns:
        What was written, and how far it is from the model.

    Raises:
        ExportError: as in `to_onnx`, for a name that is no C identifier, and without a compiler.
    """
    folder = Path(folder)
    c99.require_identifier(name)
    _require_free(folder, force=force)
    if dtype not in ("float32", *BITS):
        raise ExportError(f"dtype must be float32, {' or '.join(BITS)}, got {dtype!r}")
    source = open_source(model)
    checks: Sequence[verify.Check | verify.IntegerCheck]
    if dtype == "float32":
        if bounds is not None:
            raise ExportError("bounds of the features are for integers: choose int16 or int8")
        made, checks = _c_in_floats(source, name, verified=verified)
    else:
        made, checks = _c_in_integers(source, name, dtype, bounds, verified=verified)
    verify.require_passed(checks)
    with replace_folder(folder) as temporary:
        temporary.mkdir(parents=True)
        for file, content in made.files.items():
            (temporary / file).write_text(content)
    adds = source.program.multiply_adds
    facts = {"flash_bytes": made.flash, "workspace_bytes": made.workspace, "multiply_adds": adds}
    target = "C99" if dtype == "float32" else f"C99 in {dtype}"
    return _report(target, source.program, [folder / file for file in made.files], facts, checks)


def _c_in_floats(source: Source, name: str, *, verified: bool) -> tuple[Library, list[verify.Check]]:
    program = source.program
    made = c99.to_library(program, translate(program), name, *_vectors(program, verify.trial(source, 200, seed=1)))
    return made, [verify.check_c(made.files, name, program, verify.trial(source))] if verified else []


def _c_in_integers(
    source: Source, name: str, dtype: str, bounds: tuple[float, float] | None, *, verified: bool
) -> tuple[Library, list[verify.IntegerCheck]]:
    quantised = quantise(source.program, dtype, bounds)
    bounded = BoundedSource(source, quantised.box)
    vectors = _vectors(source.program, verify.trial(bounded, 200, seed=1), quantised.output_error)
    made = c99.to_library(source.program, translate_integers(quantised), name, *vectors)
    return made, [verify.check_integers(made.files, name, quantised, verify.trial(bounded))] if verified else []


def _vectors(program: Program, tried: Trial, proven: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, outputs and tolerances of the test vectors. proven: what integers may be off."""
    rows = verify.c_rows(program, tried.rows)[:VECTORS]
    return rows, tried.truth[:VECTORS], proven + tried.limit * tried.scale[:VECTORS]


def _require_free(path: Path, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise ExportError(f"{path} would be in a folder that does not exist")
    if not path.exists():
        return
    if not force:
        raise ExportError(f"{path} exists already: --force replaces it")
    if path.is_dir() and not any(path.glob("*_weights.h")):
        raise ExportError(f"{path} holds files that no export wrote: name another folder")


def _report(
    target: str,
    program: Program,
    files: list[Path],
    facts: dict[str, int],
    checks: Sequence[verify.Check | verify.IntegerCheck],
) -> ExportReport:
    return ExportReport(target, program.kind, program.digest, tuple(map(str, files)), facts, tuple(checks))
