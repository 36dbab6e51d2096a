"""The five tables that the paper's regression experiments learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import DataError, reading
from .catalog import TableSource, table_sources
from .download import find

SETS = table_sources()


@dataclass(frozen=True)
class Regression:
    """x: (n, d) and y: (n,), float64; groups: (n,), int64, whose rows belong to one subject, or None."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    groups: NDArray[np.int64] | None
    source: TableSource


def regression(name: str) -> Regression:
    """One of the paper's tables, as its authors publish it, downloaded at first use.

    parkinsons has `groups`: its column 0, the subject, which stays in x as in the paper.
    Raises ValueError for an unknown name, DataError if the file cannot be had or is damaged.

    >>> sorted(SETS)
    ['bikesharing', 'calhousing', 'elevators', 'parkinsons', 'skillcraft']
    """
    if name not in SETS:
        raise ValueError(f"name must be one of {', '.join(SETS)}, got {name!r}")
    source = SETS[name]
    table = read_numbers(find(source.files[0]), (source.rows, len(source.features) + 1), ",")
    x, y = table[:, :-1], table[:, -1]
    groups = x[:, source.features.index("subject")].astype(np.int64) if "subject" in source.features else None
    return Regression(x, y, groups, source)


def standardise(x: NDArray[np.float64]) -> Tensor:
    """(x - mean) / std of every column, without the constant ones.  x: (n, d) -> (n, d or fewer), float32.

    The paper's protocol: the statistics are those of the whole table. They look at test rows, though at no target, which
    is harmless with thousands of rows but is not how a network in use meets new ones. Raises ValueError if x is no table.

    >>> standardise(np.array([[1.0, 7.0], [3.0, 7.0]]))
    tensor([[-1.],
            [ 1.]])
    """
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x must be (n, d), finite, with at least one row, got {x.shape}")
    x = np.asarray(x, np.float64)  # float32 statistics lose columns around 1e-8
    x = x[:, x.max(0) > x.min(0)]
    return torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32))


def read_numbers(path: Path, shape: tuple[int, int], separator: str | None = None) -> NDArray[np.float64]:
    """A text file's table of numbers, between separators or blanks; raises DataError if it is damaged or of another shape."""
    try:
        with reading(path):
            lines = path.read_text(encoding="ascii").splitlines()
        table = np.array([line.split(separator) for line in lines], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: not a table of numbers, or cut off in the middle of a line") from error
    if table.shape != shape:
        raise DataError(f"{path}: expected {shape[0]} rows of {shape[1]} numbers, got shape {table.shape}")
    if not np.isfinite(table).all():
        raise DataError(f"{path}: holds numbers that are not finite")
    return table
