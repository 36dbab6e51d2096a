"""Models written to files, once the artefact has computed what the model does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.files import write_atomic
from . import c99, measure, onnx, packaging, traced, verify, wasm, wasm_runtimes, web
from .c99 import Library
from .c_code import translate
from .c_integers import translate_integers
from .folders import require_file, require_folder, write_folder
from .integers import Integers
from .measure import Cost
from .program import ExportError, Program
from .quantisation import BITS, quantise
from .report import ExportReport
from .sources import BoundedSource, Source, open_source
from .traced import TracedNetwork
from .verify import Trial

Checked = verify.Check | verify.IntegerCheck
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
    require_file(path, force=force)
    source = open_source(model)
    network = source.traced
    if network:
        made, facts = traced.to_model(network), {}
        checks = [verify.check_onnxruntime(made, verify.trial(source, verify.IMAGES))] if verified else []
    else:
        made, facts = onnx.to_model(source.program), {"multiply_adds": source.program.multiply_adds}
        checks = verify.check_onnx(made, verify.trial(source)) if verified else []
    verify.require_passed(checks)
    content = made.SerializeToString()
    write_atomic(path, content)
    facts = {"bytes": len(content), "nodes": len(made.graph.node), **facts}
    return _report("ONNX", network or source.program, [path], facts, checks)


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
    require_folder(folder, c99.ENDINGS[1], packaging.file_names, force=force)
    made = prepare(model, name, dtype, bounds)
    library, program = made.library, made.program
    checks: Sequence[Checked] = [made.check()] if verified else []
    verify.require_passed(checks)
    costs = measure.measure(library.files, name, VECTORS) if verified else []
    adds = program.multiply_adds
    facts = {"flash_bytes": library.flash, "workspace_bytes": library.workspace, "multiply_adds": adds}
    report = _report(made.target("C99"), program, [], facts, checks, costs)
    files = {**library.files, **packaging.package(program, name, report.lines())}
    write_folder(folder, files)
    return replace(report, files=tuple(str(folder / file) for file in files))


def to_wasm(
    model: Any,
    folder: str | Path,
    *,
    name: str = "model",
    dtype: str = "float32",
    bounds: tuple[float, float] | None = None,
    verified: bool = True,
    force: bool = False,
) -> ExportReport:
    """Writes WebAssembly of the same C to a folder, with a typed wrapper for JavaScript, once it has computed the same as the model.

    Args:
        model: as in `to_onnx`.
        folder: to write, as in `to_c`.
        name: what the names of files begin with.
        dtype: as in `to_c`.
        bounds: as in `to_c`.
        verified: False leaves running it in node and wasmtime out.
        force: replaces what this function wrote there.

    Returns:
        What was written, and how far it is from the model.

    Raises:
        ExportError: as in `to_c`; without clang for WebAssembly, or without node and wasmtime to run it.
    """
    folder = Path(folder)
    require_folder(folder, wasm.ENDINGS[0], wasm.file_names, force=force)
    made = prepare(model, name, dtype, bounds)
    files, checks = _wasm(made, verified=verified)
    write_folder(folder, files)
    facts = {"wasm_bytes": len(files[f"{name}.wasm"]), "multiply_adds": made.program.multiply_adds}
    target = made.target("WebAssembly")
    return _report(target, made.program, [folder / file for file in files], facts, checks)


def to_web(
    model: Any,
    path: str | Path,
    *,
    title: str = "model",
    dtype: str = "float32",
    bounds: tuple[float, float] | None = None,
    verified: bool = True,
    force: bool = False,
) -> ExportReport:
    """Writes one HTML page that runs the model where it is opened, once its WebAssembly has computed the same as the model.

    A table's model gets a form, one of single letters or digits a pad to draw on, other images a file to choose.

    Args:
        model: as in `to_onnx`.
        path: of the page to write.
        title: of the page.
        dtype: as in `to_c`.
        bounds: as in `to_c`.
        verified: False leaves running the WebAssembly in node and wasmtime out.
        force: replaces a file that is there.

    Returns:
        What was written, and how far it is from the model.

    Raises:
        ExportError: as in `to_wasm`, and for a network of too many numbers to type.
    """
    path = Path(path)
    require_file(path, force=force)
    made = prepare(model, "model", dtype, bounds)
    web.require_page(made.program)
    files, checks = _wasm(made, verified=verified)
    page = web.page(made.interface(), files["model.wasm"], title, made.program, made.tried, made.tolerance)
    content = page.encode()
    write_atomic(path, content)
    facts = {"bytes": len(content), "multiply_adds": made.program.multiply_adds}
    return _report(made.target("Web page"), made.program, [path], facts, checks)


@dataclass(frozen=True)
class Prepared:
    """The C of a model.

    source: gives rows within the bounds of integers. tried: rows, of which artefacts check themselves on the first; tolerance: (n,),
    how far a machine may be off in each: by what float32 may be, and by what is proven of the integers.
    """

    library: Library
    name: str
    source: Source
    integers: Integers | None
    tried: Trial
    tolerance: np.ndarray

    @property
    def program(self) -> Program:
        """What the model computes."""
        return self.source.program

    def target(self, what: str) -> str:
        """What it becomes, for people."""
        return f"{what} in {self.integers.dtype}" if self.integers else what

    def check(self) -> Checked:
        """How the C does. Raises ExportError if it does not compile."""
        tried, files = verify.trial(self.source), self.library.files
        if self.integers:
            return verify.check_integers(files, self.name, self.integers, tried)
        return verify.check_c(files, self.name, self.program, tried)

    def interface(self) -> dict[str, Any]:
        """What JavaScript knows of the model."""
        return wasm.describe_interface(self.program, self.library, self.name, self.integers)


def prepare(
    model: Any, name: str = "model", dtype: str = "float32", bounds: tuple[float, float] | None = None
) -> Prepared:
    """The C of a model, from which C, WebAssembly and pages are written; arguments as in `to_c`. Raises ExportError."""
    c99.require_identifier(name)
    if dtype not in ("float32", *BITS):
        raise ExportError(f"dtype must be float32, {' or '.join(BITS)}, got {dtype!r}")
    if dtype == "float32" and bounds is not None:
        raise ExportError("bounds of the features are for integers: choose int16 or int8")
    source = open_source(model)
    program = source.program
    integers = None if dtype == "float32" else quantise(program, dtype, bounds)
    if integers:
        source = BoundedSource(source, integers.box)
    code = translate_integers(integers) if integers else translate(program)
    tried = verify.trial(source, 200, seed=1)
    tolerance = (integers.output_error if integers else 0.0) + tried.limit * tried.scale
    vectors = verify.c_rows(program, tried.rows), tried.truth, tolerance
    library = c99.to_library(program, code, name, *(values[:VECTORS] for values in vectors))
    return Prepared(library, name, source, integers, tried, tolerance)


def _wasm(made: Prepared, *, verified: bool) -> tuple[dict[str, bytes], Sequence[Checked]]:
    """The module and its wrapper, and how they did."""
    program, name = made.program, made.name
    files = {f"{name}.wasm": wasm.compile_wasm(made.library, name, program)}
    files |= {file: content.encode() for file, content in wasm.wrapper(made.interface(), name).items()}
    if not verified:
        return files, []
    checks = wasm_runtimes.check_wasm(files, name, program, verify.trial(made.source), made.integers)
    verify.require_passed(checks)
    return files, checks


def _report(
    target: str,
    program: Program | TracedNetwork,
    files: Sequence[Path],
    facts: dict[str, int],
    checks: Sequence[Checked],
    costs: Sequence[Cost] = (),
) -> ExportReport:
    return ExportReport(
        target, program.kind, program.digest, tuple(map(str, files)), facts, tuple(checks), tuple(costs)
    )
