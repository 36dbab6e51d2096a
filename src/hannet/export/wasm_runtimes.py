"""WebAssembly run on rows, by node through its wrapper and by wasmtime, and compared with the model."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .folders import temporary_folder
from .integers import Integers
from .program import Category, ColumnsInput, ExportError, Program
from .sources import Rows
from .verify import Check, IntegerCheck, Trial, c_rows, compare, judge_integers

Found = tuple[NDArray[np.float32], NDArray[np.int32] | None]
_RUNNER = """import { load } from "./@.mjs";
import { readFileSync, writeFileSync } from "node:fs";
const model = await load();
const rows = JSON.parse(readFileSync("rows.json", "utf8"));
const bytes = (parts) => Buffer.concat(parts.map((part) => Buffer.from(part.buffer)));
const found = rows.map((row) => [model.predict(row), EXACT ? model.integers() : new Int32Array(0)]);
writeFileSync("out", bytes(found.map((pair) => pair[0])));
writeFileSync("integers", bytes(found.map((pair) => pair[1])));
"""


def check_wasm(
    files: Mapping[str, bytes], name: str, program: Program, tried: Trial, made: Integers | None
) -> Sequence[Check | IntegerCheck]:
    """Under node and wasmtime, or the one that is installed; integers bit by bit. Raises ExportError without either."""
    found: list[Check | IntegerCheck] = []
    for runtime, run in runtimes().items():
        outputs, integers = run(files, name, program, tried.rows, made)
        if made is None or integers is None:
            found.append(compare(f"WebAssembly, {runtime}", outputs, tried))
        else:
            found.append(judge_integers("WebAssembly", runtime, outputs, integers, made, tried))
    return found


def runtimes() -> dict[str, Callable[..., Found]]:
    """What runs WebAssembly here, by name. Raises ExportError if nothing does."""
    found: dict[str, Callable[..., Found]] = {}
    if shutil.which("node"):
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
        found[f"node {version}"] = _in_node
    try:
        import wasmtime  # noqa: F401
    except ImportError:
        pass
    else:
        found["wasmtime"] = _in_wasmtime
    if not found:
        raise ExportError(
            "checking WebAssembly needs node or wasmtime: pip install wasmtime; --no-verify leaves the check out"
        )
    return found


def _in_node(files: Mapping[str, bytes], name: str, program: Program, rows: Rows, made: Integers | None) -> Found:
    runner = _RUNNER.replace("EXACT", "true" if made else "false").replace("@", name)
    with temporary_folder({**files, "run.mjs": runner, "rows.json": json.dumps(plain_rows(program, rows))}) as folder:
        done = subprocess.run(["node", "run.mjs"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExportError(f"the WebAssembly fails in node: {done.stderr.strip()[-200:]}")
        outputs, integers = ((folder / file).read_bytes() for file in ("out", "integers"))
    return _shaped(outputs, integers, program, made)


def _shaped(outputs: bytes, integers: bytes, program: Program, made: Integers | None) -> Found:
    found = np.frombuffer(outputs, np.float32).reshape(-1, program.output.size)
    return found, np.frombuffer(integers, np.int32).reshape(len(found), -1) if made else None


def plain_rows(program: Program, rows: Rows) -> list[list[Any]]:
    """The rows for JSON, as the wrapper takes them: lists of numbers and words, what is not finite by its name in JavaScript."""
    inputs = program.inputs
    if not isinstance(inputs, ColumnsInput):
        return np.asarray(rows).reshape(len(rows), -1).tolist()
    columns = [rows[c.name] if inputs.named else rows[:, place] for place, c in enumerate(inputs.columns)]
    texts = [
        values.tolist() if isinstance(column, Category) else list(map(_plain, values))
        for column, values in zip(inputs.columns, columns, strict=True)
    ]
    return [list(row) for row in zip(*texts, strict=True)]


def _plain(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return float(value) if np.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _in_wasmtime(files: Mapping[str, bytes], name: str, program: Program, rows: Rows, made: Integers | None) -> Found:
    from wasmtime import Instance, Module, Store

    store = Store()
    module = Module(store.engine, files[f"{name}.wasm"])
    exports: Any = Instance(store, module, []).exports(store)
    memory, row, out = exports["memory"], exports["row"](store), exports["out"](store)
    held = exports["integers"](store) if made else 0
    size = 4 * program.output.size
    outputs, integers = bytearray(), bytearray()
    for given in c_rows(program, rows):
        memory.write(store, given.tobytes(), row)
        if exports["predict"](store):
            raise ExportError("the WebAssembly refuses a row in wasmtime")
        outputs += memory.read(store, out, out + size)
        integers += memory.read(store, held, held + size * len(made.members)) if made else b""
    return _shaped(bytes(outputs), bytes(integers), program, made)
