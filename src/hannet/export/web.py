"""A model as one HTML page that needs nothing else: a form for a table, a pad to draw on or a file for images."""

import base64
import html
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import template
from .program import ExportError, Program, TensorInput
from .verify import Trial
from .wasm_runtimes import plain_rows

VECTORS = 6  # rows that the page checks itself on
MOST_FIELDS = 64  # of a network on numbers, which says no names


def require_page(program: Program) -> None:
    """Raises ExportError for a network of too many numbers to type."""
    inputs = program.inputs
    if isinstance(inputs, TensorInput) and not inputs.pixels and inputs.width > MOST_FIELDS:
        raise ExportError(
            f"a page asks for {MOST_FIELDS} numbers at most, and this network takes {inputs.width}: export it with --to wasm"
        )


def page(
    interface: Mapping[str, Any], wasm: bytes, title: str, program: Program, tried: Trial, tolerance: np.ndarray
) -> str:
    """The page.

    Args:
        interface: what `wasm.describe_interface` gives.
        wasm: the module.
        title: what the page is called.
        program: of the model.
        tried: rows that the page checks itself on, the first VECTORS of them.
        tolerance: (n,), how far it may be off.
    """
    spec = dict(interface)
    if isinstance(program.inputs, TensorInput) and not program.inputs.pixels:
        spec["columns"] = [{"name": f"x{place + 1}", "mean": 0} for place in range(program.inputs.width)]
    rows = plain_rows(program, tried.rows)[:VECTORS]
    spec["vectors"] = [
        {"row": row, "expected": expected, "tolerance": float(limit)}
        for row, expected, limit in zip(rows, tried.truth[:VECTORS].tolist(), tolerance[:VECTORS], strict=True)
    ]
    values = {
        "TITLE": html.escape(title),
        "SUBTITLE": html.escape(program.kind[0].upper() + program.kind[1:]),
        "DIGEST": program.digest[:12],
        "SPEC": json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c"),
        "WASM": base64.b64encode(wasm).decode(),
        "STYLE": template.fill("browser/page.css", {}),
        "MODEL": template.fill("browser/model.js", {}),
        "SCRIPT": template.fill("browser/page.js", {}),
    }
    return template.fill("browser/page.html", values)
