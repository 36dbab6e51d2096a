"""Results as a person reads them: tables beside the paper's numbers, pictures, machine-readable summaries."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..reporting.figures import Figure, figure_as_bytes
from ..reporting.tables import Table, markdown
from ..storage.files import write_atomic
from .base import Experiment
from .record import Record


def summary(table: Table, records: Mapping[str, Record], plan: Experiment | None = None) -> dict[str, Any]:
    """The table and the records behind it, ready for JSON, in an order that does not depend on which ended first.

    plan: whose table it is; then also the `command` that makes it, and whether it is `comparable` with the paper's.
    """
    ordered = [asdict(record) for _, record in sorted(records.items())]
    made = {"command": ["hannet", "reproduce", *plan.arguments], "comparable": plan.comparable} if plan else {}
    return {
        "title": table.title,
        **made,
        "columns": {key: list(shown) for key, shown in table.columns.items()},
        "rows": [dict(row) for row in table.rows],
        "notes": list(table.notes),
        "records": [{k: v for k, v in record.items() if k != "curves"} for record in ordered],
    }


def save(
    stem: Path, table: Table, records: Mapping[str, Record], figure: Figure, plan: Experiment | None = None
) -> list[Path]:
    """Write STEM.md, .json, .png and .svg, each aside and then renamed. Returns their paths; raises StoreError."""
    contents = {
        ".md": markdown(table).encode(),
        ".json": (json.dumps(summary(table, records, plan), indent=1, allow_nan=False) + "\n").encode(),
        ".png": figure_as_bytes(figure, "png"),
        ".svg": figure_as_bytes(figure, "svg"),
    }
    paths = [stem.with_name(stem.name + suffix) for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomic(path, content)
    return paths
