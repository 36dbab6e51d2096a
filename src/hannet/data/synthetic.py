"""Targets on the square [-1, 1]^2: the paper's checkerboard."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import DataError

SIDE = 81  # points of the mesh along one side, 0.025 apart
TRAIN = 1640  # a quarter of the 6561 points
MARGIN = 4  # points left of the first square
INNER = 72  # points that all squares of a side share


@dataclass(frozen=True)
class Square:
    """The mesh with a target, and the split of its points. x: (n, 2), y: (n, 2), the target twice; all float32."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    mesh: Tensor  # (81 * 81, 2), the first coordinate slowest
    target: Tensor  # (81 * 81,), 0 or 1


def checkerboard(squares: int = 12, split_seed: int = 0, split: Literal["random", "authors"] = "random") -> Square:
    """Checkerboard of squares x squares on the inner 72 x 72 points of the mesh, 0 on the margin; 25% of the points train.

    split: "random" draws the training points with `split_seed`; "authors" reads those of the paper's authors from
    `checkerboard/trainset.txt` and `testset.txt` in the folder that the environment variable HANNET_DATA names.
    Raises ValueError if 72 points don't divide into `squares`, DataError if the authors' files are missing or damaged.

    >>> board = checkerboard()
    >>> board.x_train.shape, board.x_test.shape, round(board.target.mean().item(), 3)
    (torch.Size([1640, 2]), torch.Size([4921, 2]), 0.395)
    """
    if squares < 1 or INNER % squares:
        raise ValueError(f"squares must divide {INNER}, got {squares}")
    if split not in ("random", "authors"):
        raise ValueError(f'split must be "random" or "authors", got {split!r}')
    axis = torch.from_numpy((np.arange(SIDE) * 0.025 - 1).astype(np.float32))
    mesh = torch.cartesian_prod(axis, axis)
    target = _target(squares)
    if split == "random":
        order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(split_seed))
    else:
        order = _authors_order(target)
    x, y = mesh[order], target[order, None].expand(-1, 2).contiguous()
    return Square(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], mesh, target)


def _target(squares: int) -> Tensor:
    square = torch.arange(INNER) // (INNER // squares)
    target = torch.zeros(SIDE, SIDE)
    target[MARGIN : MARGIN + INNER, MARGIN : MARGIN + INNER] = (square[:, None] + square) % 2
    return target.flatten()


def _authors_order(target: Tensor) -> Tensor:
    """Indices into the mesh of the authors' points, training points first."""
    root = os.environ.get("HANNET_DATA")
    if not root:
        raise DataError("The authors' split needs the environment variable HANNET_DATA: the folder with checkerboard/")
    order = [_read(Path(root, "checkerboard", name), n, target) for name, n in _AUTHORS_FILES.items()]
    joined = torch.cat(order)
    if len(joined.unique()) != SIDE * SIDE:
        raise DataError(
            f"{Path(root, 'checkerboard')}: the two files share points, so they are not one split of the mesh"
        )
    return joined


_AUTHORS_FILES = {"trainset.txt": TRAIN, "testset.txt": SIDE * SIDE - TRAIN}


def _read(path: Path, rows: int, target: Tensor) -> Tensor:
    """Mesh indices of the points of one file, whose lines are `x1 x2 y y`."""
    try:
        table = np.array([line.split() for line in path.read_text(encoding="ascii").splitlines()], dtype=np.float64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a table of numbers, or cut off in the middle of a line") from error
    if table.shape != (rows, 4):
        raise DataError(f"{path}: expected {rows} rows of 4 numbers, got shape {table.shape}")
    steps = (table[:, :2] + 1) / 0.025
    nearest = np.rint(steps)
    if not np.all((np.abs(steps - nearest) < 1e-4) & (nearest >= 0) & (nearest < SIDE)):
        raise DataError(f"{path}: holds points off the {SIDE} x {SIDE} mesh of [-1, 1]^2")
    index = torch.from_numpy((nearest[:, 0] * SIDE + nearest[:, 1]).astype(np.int64))
    if not np.array_equal(table[:, 2:], target[index, None].expand(-1, 2).numpy()):
        raise DataError(f"{path}: its targets are not those of the checkerboard")
    return index
