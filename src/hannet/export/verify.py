"""Whether an artefact computes what its model does: run on rows, compared in float64, with PyTorch's float32 as the measure."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import template
from .c99 import code_of
from .c_code import inputs_of, row_type
from .folders import temporary_folder
from .integers import Integers
from .program import Category, ExportError, Program, TensorInput
from .sources import Rows, Source

if TYPE_CHECKING:
    from onnx import ModelProto

ROWS, IMAGES = 2000, 40
ALLOWED, FLOOR = (
    4,
    16 * 2**-24,
)  # times the error of PyTorch in float32, and at least so much, relative to a row's scale
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-pedantic", "-Werror")
Array = NDArray[Any]


@dataclass(frozen=True)
class Trial:
    """Rows, what the model gives for them in float64, and how far PyTorch in float32 is from that, relative to each row's scale.

    scale: of a row, the largest of its outputs and, of features, inputs; 1 if they are smaller.
    """

    rows: Rows
    truth: Array
    scale: Array
    float32_error: float

    @property
    def limit(self) -> float:
        """The largest relative error that an artefact may have."""
        return max(ALLOWED * self.float32_error, FLOOR)


@dataclass(frozen=True)
class Check:
    """How an artefact did. Errors are relative to the scale of a row, which is at least 1; row: the worst, by its number."""

    runtime: str
    rows: int
    largest_error: float
    row: int
    float32_error: float
    limit: float

    @property
    def allowed(self) -> float:
        """What the error may be, of any row."""
        return self.limit

    @property
    def passed(self) -> bool:
        """Whether the error is small enough."""
        return self.largest_error <= self.limit

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"Computes the same as the model: {self.runtime}, {self.rows:,} rows, largest relative error {self.largest_error:.2g} "
            f"(PyTorch in float32: {self.float32_error:.2g}; allowed: {self.limit:.2g})"
        )


def trial(source: Source, count: int = ROWS, seed: int = 0) -> Trial:
    """Rows to try an artefact on, from the seed."""
    rows = source.rows(count, np.random.default_rng(seed))
    truth = source.evaluate(rows, torch.float64)
    scale = np.maximum(np.abs(truth).max(1), 1.0)
    if isinstance(rows, np.ndarray) and rows.dtype == np.float32:
        scale = np.maximum(scale, np.abs(rows).reshape(len(rows), -1).max(1))
    single = source.evaluate(rows, torch.float32).astype(np.float32)
    return Trial(rows, truth, scale, float(_errors(single, truth, scale).max()))


def _errors(found: Array, truth: Array, scale: Array) -> Array:
    """The largest of each row; infinite where one is not a number."""
    errors = np.abs(found.astype(np.float64) - truth).max(1) / scale
    return np.where(np.isnan(errors), np.inf, errors)


def compare(runtime: str, found: Array, tried: Trial) -> Check:
    """What an artefact gave beside what the model gives."""
    errors = _errors(found.reshape(tried.truth.shape), tried.truth, tried.scale)
    worst = int(errors.argmax())
    return Check(runtime, len(errors), float(errors[worst]), worst, tried.float32_error, tried.limit)


def check_onnx(model: "ModelProto", tried: Trial) -> list[Check]:
    """Under ONNX's reference, and under onnxruntime if it is installed."""
    from onnx.reference import ReferenceEvaluator

    feed = onnx_feed(tried.rows)
    found = [compare("onnx reference", ReferenceEvaluator(model).run(None, feed)[0], tried)]  # type: ignore[index]
    try:
        import onnxruntime
    except ImportError:
        return found
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [*found, compare(f"onnxruntime {onnxruntime.__version__}", session.run(None, feed)[0], tried)]


def check_onnxruntime(model: "ModelProto", tried: Trial) -> Check:
    """Of a network that takes ONNX's reference minutes; in batches of 1, 2, 17 and the rest. Raises ExportError without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        raise ExportError(
            "checking it needs onnxruntime: pip install 'hannet[export]'; --no-verify leaves the check out"
        ) from None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [session.run(None, {"x": rows})[0] for rows in np.split(tried.rows, (1, 3, 20))]
    return compare(f"onnxruntime {onnxruntime.__version__}", np.concatenate(found), tried)


def onnx_feed(rows: Rows) -> dict[str, Array]:
    """The rows as inputs of the ONNX model."""
    return {name: values[:, None] for name, values in rows.items()} if isinstance(rows, Mapping) else {"x": rows}


def compiler() -> str:
    """The C compiler: what the environment's CC names, or cc. Raises ExportError if there is none."""
    wanted = os.environ.get("CC", "cc")
    if not (found := shutil.which(wanted)):
        raise ExportError(
            f"checking C needs a compiler, but {wanted} is not installed; --no-verify leaves the check out"
        )
    return found


def check_c(files: Mapping[str, str], name: str, program: Program, tried: Trial) -> Check:
    """Compiled with all warnings as errors; its own test vectors must pass too. Raises ExportError if it does not compile."""
    with temporary_folder({**files, "run.c": driver(name, row_type(program))}) as folder:
        _require_vectors(folder, name)
        runner = build(folder, [f"{name}.c", "run.c"], "run")
        return compare(f"C, {_how()}", run_c(runner, program, tried.rows), tried)


@dataclass(frozen=True)
class IntegerCheck:
    """How C in integers did: the largest error of an output, in its own units, and its row.

    limit: what is proven of the integers alone; allowed: in that row, with what float32 may add; passed: whether no error exceeds
    what its row is allowed.
    """

    runtime: str
    rows: int
    largest_error: float
    row: int
    limit: float
    allowed: float
    passed: bool

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"Computes what it should: {self.runtime}, {self.rows:,} rows, largest error {self.largest_error:.2g}; "
            f"the integers add at most {self.limit:.2g} to that of float32, proven for any row within the bounds"
        )


def check_integers(files: Mapping[str, str], name: str, made: Integers, tried: Trial) -> IntegerCheck:
    """Compiled and run as in `check_c`. Raises ExportError if an integer differs from those that Python computes."""
    program = made.program
    drivers = {"run.c": driver(name, row_type(program)), "integers.c": integer_driver(name, row_type(program))}
    with temporary_folder({**files, **drivers}) as folder:
        _require_vectors(folder, name)
        found = run_c(build(folder, [f"{name}.c", "run.c"], "run"), program, tried.rows)
        runner = build(folder, [f"{name}.c", "integers.c"], "integers")
        rows = c_rows(program, tried.rows)
        done = subprocess.run([runner], input=rows.tobytes(), capture_output=True, check=False)
        if done.returncode:
            raise ExportError(f"the compiled C ended with code {done.returncode}")
    integers = np.frombuffer(done.stdout, np.int32).reshape(len(rows), -1)
    return judge_integers("C", _how(), found, integers, made, tried)


def _how() -> str:
    return f"{Path(compiler()).name} {' '.join(FLAGS[:2])}"


def judge_integers(kind: str, how: str, found: Array, integers: Array, made: Integers, tried: Trial) -> IntegerCheck:
    """What an artefact in integers gave beside the model.

    kind, how: what it is and what ran it. integers: the members' outputs, (n, members * outputs). Raises ExportError
    if one differs from those that Python computes.
    """
    if isinstance(made.program.inputs, TensorInput):  # of columns the features are float32, rounded by each machine
        expected = np.hstack(list(made.outputs(c_rows(made.program, tried.rows))))
        if not np.array_equal(integers, expected):
            raise ExportError(
                f"the compiled {kind} gives other integers than Python; this is a fault of hannet or of the compiler"
            )
    errors = np.abs(found.astype(np.float64) - tried.truth).max(1)
    allowed = made.output_error + tried.limit * tried.scale
    passed = bool((errors <= allowed).all())
    worst = int((errors if passed else errors - allowed).argmax())
    runtime, error = f"{kind} in integers, {how}", float(errors[worst])
    return IntegerCheck(runtime, len(errors), error, worst, made.output_error, float(allowed[worst]), passed)


def _require_vectors(folder: Path, name: str) -> None:
    vectors = build(folder, [f"{name}.c", f"{name}_test.c"], "vectors")
    if subprocess.run([vectors], capture_output=True, check=False).returncode:
        raise ExportError("the compiled C does not pass its test vectors; this is a fault of hannet or of the compiler")


def build(folder: Path, sources: Sequence[str], name: str, flags: Sequence[str] = FLAGS) -> Path:
    """A program of C files. Raises ExportError with the compiler's first complaint."""
    run_compiler(folder, [compiler(), *flags, *sources, "-o", name], "the C does not compile")
    return folder / name


def run_compiler(folder: Path, command: Sequence[str], fault: str) -> None:
    """Raises ExportError of the fault and the compiler's first complaint if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"{fault}: {next(iter(done.stderr.strip().splitlines()), 'no message')}")


def driver(name: str, kind: str) -> str:
    """A program that reads rows from standard input and writes outputs to standard output."""
    return fill_names(_DRIVER, name, kind)


def integer_driver(name: str, kind: str) -> str:
    """As `driver`, with the members' integers for outputs."""
    text = template.swap(
        _DRIVER,
        ("float out[@UPPER_OUTPUTS]", "int32_t out[@UPPER_MEMBERS * @UPPER_OUTPUTS]"),
        ("@_predict", "@_integers"),
        ("i < @UPPER_OUTPUTS", "i < @UPPER_MEMBERS * @UPPER_OUTPUTS"),
        ("-1e38f", "INT32_MIN"),
    )
    return fill_names(text, name, kind)


def fill_names(text: str, name: str, kind: str) -> str:
    """The text with the prefix for `@`, in capitals for `@UPPER`, and the type of a row for `@TYPE`."""
    return text.replace("@TYPE", kind).replace("@UPPER", name.upper()).replace("@", name)


_DRIVER = """#include "@.h"
#include <stdint.h>
#include <stdio.h>
int main(void)
{
    static @_workspace w;
    static @TYPE row[@UPPER_INPUTS];
    static float out[@UPPER_OUTPUTS];
    while (fread(row, sizeof row, 1, stdin) == 1) {
        if (@_predict(row, out, &w) != 0)
            for (int i = 0; i < @UPPER_OUTPUTS; i++)
                out[i] = -1e38f;
        fwrite(out, sizeof out, 1, stdout);
    }
    return 0;
}
"""


def run_c(runner: Path, program: Program, rows: Rows) -> Array:
    """What a program made of `driver` gives for the rows.  -> (n, outputs)."""
    given = c_rows(program, rows)
    done = subprocess.run([runner], input=given.tobytes(), capture_output=True, check=False)
    if done.returncode:
        raise ExportError(
            f"the compiled C ended with code {done.returncode}: {done.stderr.decode(errors='replace')[:200]}"
        )
    return np.frombuffer(done.stdout, np.float32).reshape(len(given), program.output.size)


def c_rows(program: Program, rows: Rows) -> Array:
    """The rows as the C function takes them.  -> (n, inputs), float32 or uint8."""
    inputs = program.inputs
    if isinstance(inputs, TensorInput):
        return np.ascontiguousarray(rows, np.uint8 if inputs.pixels else np.float32).reshape(
            len(rows), inputs_of(program)
        )
    if not inputs.named:
        return np.ascontiguousarray(rows, np.float32)
    return np.stack([_c_column(column, rows[column.name]) for column in inputs.columns], 1)


def _c_column(column: Any, values: Array) -> Array:
    return code_of(column, values) if isinstance(column, Category) else values.astype(np.float32)


def require_passed(checks: Sequence[Check | IntegerCheck]) -> None:
    """Raises ExportError for an artefact that does not compute the same."""
    for check in checks:
        if not check.passed:
            raise ExportError(
                f"{check.runtime} differs from the model by {check.largest_error:.3g} in row {check.row}, where {check.allowed:.3g} "
                "is allowed: nothing is written"
            )
