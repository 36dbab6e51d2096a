"""Results as a person reads them: tables beside the paper's numbers, pictures, machine-readable summaries."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..reporting.figures import Figure, figure_as_bytes
from ..reporting.tables import Table, markdown
from ..storage.files import write_atomic
from .record import Record


def summary(table: Table, records: Mapping[str, Record]) -> dict[str, Any]:
    """The table's rows and the records behind them, ready for JSON, in an order that does not depend on which ended first."""
    ordered = [asdict(record) for _, record in sorted(records.items())]
    return {
        "title": table.title,
        "rows": [dict(row) for row in table.rows],
        "notes": list(table.notes),
        "records": [{k: v for k, v in record.items() if k != "curves"} for record in ordered],
    }


def save(stem: Path, table: Table, records: Mapping[str, Record], figure: Figure) -> list[Path]:
    """Write STEM.md, .json, .png and .svg, each aside and then renamed. Returns their paths; raises StoreError."""
    contents = {
        ".md": markdown(table).encode(),
        ".json": (json.dumps(summary(table, records), indent=1, allow_nan=False) + "\n").encode(),
        ".png": figure_as_bytes(figure, "png"),
        ".svg": figure_as_bytes(figure, "svg"),
    }
    paths = [stem.with_name(stem.name + suffix) for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomic(path, content)
    return paths
