"""Targets on the square [-1, 1]^2: the paper's checkerboard, and its sum of two products of sines."""

import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import DataError
from .regression import read_numbers

SIDE = 81  # points of the mesh along one side, 0.025 apart
TRAIN = 1640  # a quarter of the 6561 points
MARGIN = 4  # points left of the first square
INNER = 72  # points that all squares of a side share


@dataclass(frozen=True)
class Square:
    """The mesh with a target, and the split of its points. x: (n, 2), y: (n, outputs), all alike; all float32."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    mesh: Tensor  # (81 * 81, 2), the first coordinate slowest
    target: Tensor  # (81 * 81,)

    def to(self, device: torch.device) -> "Square":
        """The same on that device."""
        return replace(self, **{part.name: getattr(self, part.name).to(device) for part in fields(self)})

    def validation(self, seed: int) -> "Square":
        """The training points alone: a fifth of them, drawn with the seed, are the test points."""
        order = torch.randperm(len(self.x_train), generator=torch.Generator().manual_seed(seed))
        x, y, test = self.x_train[order], self.y_train[order], len(order) // 5
        return replace(self, x_train=x[test:], y_train=y[test:], x_test=x[:test], y_test=y[:test])


def checkerboard(squares: int = 12, split_seed: int = 0, split: Literal["random", "authors"] = "random") -> Square:
    """Checkerboard of squares x squares on the inner 72 x 72 points of the mesh, 0 on the margin; 25% of the points train.

    Two outputs, both the label, 0 or 1.
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
    target = _target(squares)
    return _split(target, _random_order(split_seed) if split == "random" else _authors_order(target), outputs=2)


def sines(split_seed: int = 0) -> Square:
    """sin(2 pi x1) sin(2 pi x2) + sin(10 pi x1) sin(10 pi x2) on the mesh of the checkerboard, with its split; one output.

    The paper (Figure 7) names a low and a high frequency without saying which.

    >>> sines().y_train.shape
    torch.Size([1640, 1])
    """
    x = _mesh(torch.float64)
    low, high = (torch.sin(frequency * math.pi * x).prod(1) for frequency in (2, 10))
    return _split((low + high).float(), _random_order(split_seed), outputs=1)


def _mesh(dtype: torch.dtype) -> Tensor:
    axis = torch.from_numpy(np.arange(SIDE) * 0.025 - 1).to(dtype)
    return torch.cartesian_prod(axis, axis)


def _random_order(seed: int) -> Tensor:
    return torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(seed))


def _split(target: Tensor, order: Tensor, outputs: int) -> Square:
    mesh = _mesh(torch.float32)
    x, y = mesh[order], target[order, None].expand(-1, outputs).contiguous()
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
    folder = Path(root, "checkerboard")
    counts = {"trainset.txt": TRAIN, "testset.txt": SIDE * SIDE - TRAIN}
    order = torch.cat([_read(folder / name, count, target) for name, count in counts.items()])
    if len(order.unique()) != SIDE * SIDE:
        raise DataError(f"{folder}: the two files share points, so they are not one split of the mesh")
    return order


def _read(path: Path, rows: int, target: Tensor) -> Tensor:
    """Mesh indices of the points of one file, whose lines are `x1 x2 y y`."""
    table = read_numbers(path, (rows, 4))
    steps = (table[:, :2] + 1) / 0.025
    nearest = np.rint(steps)
    if not np.all((np.abs(steps - nearest) < 1e-4) & (nearest >= 0) & (nearest < SIDE)):
        raise DataError(f"{path}: holds points off the {SIDE} x {SIDE} mesh of [-1, 1]^2")
    index = torch.from_numpy((nearest[:, 0] * SIDE + nearest[:, 1]).astype(np.int64))
    if not np.array_equal(table[:, 2:], target[index, None].expand(-1, 2).numpy()):
        raise DataError(f"{path}: its targets are not those of the checkerboard")
    return index
