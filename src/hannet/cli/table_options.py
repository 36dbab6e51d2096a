"""What `fit` and `predict` share: how a table is to be read, and what its file is called."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

TABLE_HELP = "Text with separators, Parquet, JSON lines or a spreadsheet; .gz and .zip too; - is standard input."
ENDINGS = (
    ".gz", ".bz2", ".xz", ".zip", ".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".parquet", ".json", ".jsonl", ".ndjson",
    ".xlsx", ".xls", ".ods",
)  # fmt: skip
YesNo = Literal["yes", "no"]
Header = Annotated[
    YesNo | None,
    typer.Option(
        help="Whether the first line names the columns, else c0, c1, ...  [default: unless it is all numbers]"
    ),
]
Skip = Annotated[int | None, typer.Option(min=0, help="Lines before the table.  [default: detected]")]
Encoding = Annotated[str | None, typer.Option(help="Of text, such as cp1252 or utf-16.  [default: detected]")]


def reading_options(header: YesNo | None, skip: int | None, encoding: str | None) -> dict[str, Any]:
    """The options of `tabular.readers.read`."""
    return {"header": None if header is None else header == "yes", "skip": skip, "encoding": encoding}


def table_name(path: Path) -> str:
    """The name of a table's file without its endings."""
    name = path.name
    while name.lower().endswith(ENDINGS):
        name = name[: name.rindex(".")]
    return "table" if name in ("", "-") else name
