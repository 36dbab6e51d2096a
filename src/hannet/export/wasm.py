"""The C of a program as WebAssembly, with a typed wrapper for JavaScript."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import template
from .c99 import Library
from .c_code import inputs_of, row_type
from .folders import temporary_folder
from .integers import Integers
from .program import Category, Date, ExportError, Number, Program, TensorInput
from .verify import fill_names, run_compiler

# One copy of a reflection's loop serves all of them: a fifth less code, at half the speed that a copy for each would have.
FLAGS = (
    "--target=wasm32", "-std=c99", "-O3", "-msimd128", "-ffp-contract=off", "-fno-builtin", "-nostdlib",
    "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,--gc-sections", "-mllvm", "-inline-threshold=100",
)  # fmt: skip
ENDINGS = (".wasm", ".mjs", ".d.mts")  # of the files, behind the name
_CLANG_VERSIONS = range(30, 10, -1)  # as Debian numbers its commands; SIMD since 12
_GLUE = """#include "@.h"
#include <stdint.h>
#define EXPORT(name) __attribute__((export_name(#name)))
static @_workspace w;
static @TYPE row_[@UPPER_INPUTS];
static float out_[@UPPER_OUTPUTS];
EXPORT(row) @TYPE *row(void) { return row_; }
EXPORT(out) float *out(void) { return out_; }
EXPORT(predict) int predict(void) { return @_predict(row_, out_, &w); }
"""
_INTEGER_GLUE = "EXPORT(integers) int32_t *integers(void) { return w.integers; }\n"
_CERTIFY_GLUE = """static float radius_;
EXPORT(radius) float radius(void) { return radius_; }
EXPORT(certify) int certify(void) { return @_certify(row_, out_, &radius_, &w); }
"""


def compile_wasm(library: Library, name: str, program: Program) -> bytes:
    """The WebAssembly of a program's C files. Raises ExportError without a compiler that has the target."""
    glue = _GLUE + _INTEGER_GLUE * _has(library, name, "integers") + _CERTIFY_GLUE * _has(library, name, "certify")
    with temporary_folder({**library.files, "glue.c": fill_names(glue, name, row_type(program))}) as folder:
        _build(compiler(), folder, f"{name}.c", "glue.c")
        return (folder / "out.wasm").read_bytes()


def _has(library: Library, name: str, function: str) -> bool:
    return f"int {name}_{function}(" in library.files[f"{name}.h"]


def compiler() -> str:
    """The first clang on the path that makes WebAssembly. Raises ExportError if none does."""
    for found in filter(None, map(shutil.which, _names())):
        with temporary_folder({"empty.c": "#include <stdint.h>\nint32_t nothing(void);\n"}) as folder:
            try:
                _build(found, folder, "empty.c")
            except ExportError:
                continue
            return found
    raise ExportError(
        "WebAssembly needs clang with the target wasm32, and lld beside it: apt install clang lld, or brew install llvm lld"
    )


def _names() -> Iterator[str]:
    yield "clang"
    yield from (f"clang-{version}" for version in _CLANG_VERSIONS)


def _build(clang: str, folder: Path, *sources: str) -> None:
    run_compiler(folder, [clang, *FLAGS, *sources, "-o", "out.wasm"], "the C cannot be compiled to WebAssembly")


def describe_interface(program: Program, library: Library, name: str, made: Integers | None) -> dict[str, Any]:
    """What the wrapper knows of the model, for JSON."""
    inputs, output = program.inputs, program.output
    columns = [] if isinstance(inputs, TensorInput) else list(map(_column, inputs.columns))
    return {
        "kind": program.kind,
        "sha256": program.digest,
        "inputs": inputs_of(program),
        "outputs": output.size,
        "pixels": isinstance(inputs, TensorInput) and inputs.pixels,
        "shape": list(inputs.shape) if isinstance(inputs, TensorInput) else None,
        "columns": columns,
        "classes": list(output.classes),
        "predicts": output.name,
        "members": len(made.members) if made else 0,
        "certifies": _has(library, name, "certify"),
    }


def _column(column: Number | Category | Date) -> dict[str, Any]:
    if isinstance(column, Category):
        return {"name": column.name, "levels": list(column.levels), "missing": list(column.missing)}
    if isinstance(column, Date):
        kind = "time" if column.origin else "datetime-local" if {"hour", "day sin"} & {*column.parts} else "date"
        return {"name": column.name, "optional": True, "date": kind}
    return {"name": column.name, "optional": column.fill is not None, "mean": column.mean}


def wrapper(interface: Mapping[str, Any], name: str) -> dict[str, str]:
    """The JavaScript that loads NAME.wasm, and its types."""
    shape = " x ".join(map(str, interface["shape"] or [interface["inputs"]]))
    values = {"NAME": name, "KIND": json.dumps(interface["kind"])[1:-1], "SHAPE": shape}
    values |= {"SPEC": json.dumps(interface, indent=1), "MODEL": template.fill("browser/model.js", {})}
    return {name + ending: template.fill(f"browser/wrapper{ending}", values) for ending in ENDINGS[1:]}


def file_names(name: str) -> set[str]:
    """What an export writes to its folder."""
    return {name + ending for ending in ENDINGS}
