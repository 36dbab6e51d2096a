"""Tables from files that know their columns or cells: Parquet, JSON, spreadsheets."""

import csv
import datetime as dt
import io
import json
import re
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet

from .delimited import MAX_WHOLE, Columns, read_text
from .dialect import STAND_IN, Dialect
from .encodings import Decoder
from .layout import Wish
from .sampling import Blocks, read_up_to, sample
from .table import TableError, join_names

JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(\[\s*)?\{\s*["}]')
TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)  # of numbers
MAX_MEMORY = 2**40  # bytes: no limit


def read_parquet(stream: Any, wish: Wish) -> Columns:
    """Read Parquet, or raise TableError."""
    try:
        file = parquet.ParquetFile(stream)
        table, notes = sample(file.iter_batches(), wish.max_bytes or MAX_MEMORY, file.schema_arrow)
        table.validate(full=True)  # text that is no UTF-8
        return _from_arrow(table, notes)
    except (pa.ArrowException, OSError) as error:
        raise TableError(" is a damaged Parquet file") from error


def read_json(stream: Any, wish: Wish) -> Columns:
    """Read objects of JSON, one a line or all in a list, or raise TableError."""
    limit = wish.max_bytes or MAX_WHOLE
    content = read_up_to(stream, limit + 1)
    more = len(content) > limit
    decoder = Decoder(content, wish.encoding, whole=not more)
    content = decoder.decode(content, final=not more)
    try:
        if more and wish.max_bytes and content.lstrip().startswith(b"{"):
            cut = content.rfind(b"\n") + 1
            blocks = Blocks(content[:cut], content[cut:], stream, decoder, lambda block: block)
            stream = arrow_json.open_json(blocks)
            if _has_nested_lists(stream.schema):
                raise TableError(" is large and holds lists within lists: leave these out, or save it as CSV")
            table, notes = sample(stream, limit, stream.schema)
            return _from_arrow(table, [*decoder.notes, *notes])
        if more:
            raise TableError(
                f": the table has more than {limit >> 20:,} MiB: divide it into several files, or save it as CSV"
            )
        table = arrow_json.read_json(pa.BufferReader(content))
        alone = len(table) == 1 and any(map(pa.types.is_list, table.schema.types))
        if not alone and not _has_nested_lists(table.schema):
            return _from_arrow(table, decoder.notes)
    except pa.ArrowException as error:  # a list, or values of several types in a column
        if more:
            raise TableError(f" is damaged JSON ({error})") from error
    return _from_records(_records(content), decoder.notes)


def _has_nested_lists(schema: pa.Schema) -> bool:
    """Whether there are lists within lists: pyarrow 26 loses those behind a null, and may crash."""
    kinds = list(schema.types)
    for kind in kinds:  # which grows
        if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
            return True
        kinds += [field.type for field in kind] if pa.types.is_struct(kind) else []
    return False


def _records(content: bytes) -> list[dict[str, Any]]:
    """The objects of a list, of lines, or of the list that a single object holds."""
    try:
        try:
            found = json.loads(content)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            found = [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise TableError(f" is damaged JSON ({error})") from error
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        found = lists[0] if len(lists) == 1 else [found]
    if not all(isinstance(record, dict) for record in found):
        raise TableError(" is JSON, but no list of objects")
    return found


def _from_records(records: list[dict[str, Any]], notes: list[str]) -> Columns:
    flat = [_flatten(record) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    cells = [[record.get(name) for record in flat] for name in names]
    numeric = frozenset(place for place, column in enumerate(cells) if _are_numbers(column))
    texts = [pa.chunked_array([pa.array(map(_text, column), pa.large_string())]) for column in cells]
    return Columns(names, texts, notes, numeric=numeric)


def _flatten(record: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= (
            {f"{name}.{part}": cell for part, cell in _flatten(value).items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return flat


def _from_arrow(table: pa.Table, notes: list[str]) -> Columns:
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    numeric = frozenset(place for place, kind in enumerate(table.schema.types) if any(test(kind) for test in TYPES))
    return Columns(list(table.column_names), [_as_text(column) for column in table.columns], notes, numeric=numeric)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text that reads back as the same value."""
    try:
        texts = column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, bytes that are no text
        values = [None if value is None else str(value) for value in column.to_pylist()]
        texts = pa.chunked_array([pa.array(values, pa.large_string())])
    return texts.fill_null("")


def read_workbook(stream: Any, wish: Wish) -> Columns:
    """Read the first sheet of a spreadsheet that is not empty, or raise TableError."""
    try:
        import python_calamine as calamine
    except ImportError as error:
        raise TableError(": to read spreadsheets, pip install python-calamine; or save the table as CSV") from error
    rows: list[list[Any]] = []
    try:
        workbook = calamine.CalamineWorkbook.from_filelike(stream)
        names = workbook.sheet_names
        for name in names:
            if rows := workbook.get_sheet_by_name(name).to_python(skip_empty_area=True):
                break
    except calamine.PasswordError as error:
        raise TableError(" is protected by a password: save it without") from error
    except (calamine.CalamineError, calamine.XmlError, calamine.ZipError, OSError) as error:
        raise TableError(f" is a damaged spreadsheet ({error})") from error
    if not rows:
        raise TableError(" is empty")
    lines = io.StringIO()
    texts = [[_text(cell) for cell in row] for row in rows]
    csv.writer(lines, delimiter=STAND_IN, lineterminator="\n").writerows(row if any(row) else [] for row in texts)
    found = read_text(io.BytesIO(lines.getvalue().encode()), replace(wish, encoding="utf-8"), Dialect(STAND_IN))
    numbers = [{_text(cell) for cell in column if _are_numbers([cell])} | {""} for column in zip(*rows, strict=True)]
    numeric = {
        place
        for place, texts in enumerate(found.texts)
        if texts.unique().to_pylist() and set(texts.unique().to_pylist()) <= numbers[place]
    }
    others = [repr(other) for other in names if other != name]
    notes = [f"read: the sheet {name!r}; not read: {join_names(others)}"] if others else []
    return replace(found, notes=notes + found.notes, delimiter=",", numeric=frozenset(numeric))


def _are_numbers(values: list[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case dt.datetime():
            return str(value).removesuffix(" 00:00:00")
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
    return str(value)
