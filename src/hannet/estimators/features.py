"""The columns of a table before a network sees them: scaled, clipped, and as staircases."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_LEVELS, _STEPS = 50, 16  # a staircase has a step a value of a column up to so many values, else so many
_FINE, _SOFT = 0.1, 3.0  # chosen on validation rows, as is what HanRegressor trains by: docs/log.md
_ROOM = 1 << 28  # numbers that all staircases of the training rows may have, 1 GiB; larger tables get fewer steps
_ORDINARY = 100  # columns; wider tables get fewer steps if they have few rows, and inputs that are trained on smaller
_SAME = 1e-14  # a column whose values differ by less, relative to their mean, differs by rounding: a constant
_FAR = 1e6  # standard deviations: an input further off counts as this far, so that float32 stays finite


class Scaler:
    """(x - mean) / std of each column, 0 for a constant one.  x: (n, features) -> (n, width) in float32."""

    def fit(self, x: Array, weights: Array) -> Self:
        """Weighted mean and std, c and 0 to the bit where all are c.  x: (n, features); weights: (n,)."""
        self.mean: Array = x[0] + np.average(x - x[0], axis=0, weights=weights)
        off = x - self.mean
        with np.errstate(over="ignore"):
            self.std: Array = np.sqrt(np.average(np.square(off), axis=0, weights=weights))
        far = np.abs(off).max(0)
        lost = (far > 0) & ~((self.std > 0) & np.isfinite(self.std))  # squares beyond the range of float64
        self.std[lost] = far[lost] * np.sqrt(np.average(np.square(off[:, lost] / far[lost]), axis=0, weights=weights))
        self.std[far <= _SAME * np.abs(self.mean)] = 0.0
        return self

    @property
    def width(self) -> int:
        """Columns that come out."""
        return len(self.mean)

    def transform(self, x: Array) -> Tensor:
        """(n, features) -> (n, width) in float32."""
        with np.errstate(over="ignore"):
            z = np.divide(x - self.mean, self.std, out=np.zeros_like(x), where=self.std > 0)
        return torch.from_numpy(z.clip(-_FAR, _FAR)).float()

    def inverse(self, z: Array) -> Array:
        """(n, width) -> (n, features)."""
        return z * self.std + self.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def from_dict(self, kept: Mapping[str, Any], features: int) -> Self:
        """What `to_dict` gave, for so many columns. Raises KeyError, TypeError or ValueError for anything else."""
        self.mean, self.std = _finite(kept["mean"], features), _finite(kept["std"], features)
        return self


def _finite(values: Any, count: int) -> Array:
    array = np.array(values, np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{count} finite numbers expected")
    return array


class Features:
    """What the networks see of x: every column scaled and softly clipped, and beside it a staircase.

    The column is z / sqrt(1 + (z / 3)^2), z = (x - mean) / std, so that no input is further off than 3. A staircase has a
    step clip((x - a) / (b - a), 0, 1) - 1/2 between neighbouring knots a < b: all values of a column with 3 to 50 of them,
    else quantiles (of 3 values and more), whose steps count a tenth. Tables of more than 100 columns get fewer steps, unless
    they have as many rows as all steps together. x: (n, features) -> (n, width) in float32.
    """

    def fit(self, x: Array, weights: Array) -> Self:
        """Looks at the rows trained on.  x: (n, features); weights: (n,)."""
        self.scaler = Scaler().fit(x, weights)
        room = min(_ROOM // x.size, max(_ORDINARY * (_LEVELS + 1), len(x)) // x.shape[1])
        levels, steps = (_LEVELS if room > _LEVELS else min(room, _STEPS)), min(room, _STEPS)
        varies = self.scaler.std > 0
        found = [_knots(column, weights, levels, steps if v else 0) for column, v in zip(x.T, varies, strict=True)]
        self.knots, self.few = [knots for knots, _ in found], [few for _, few in found]
        return self

    @property
    def width(self) -> int:
        """Columns that come out."""
        return self.scaler.width + sum(len(knots) - 1 for knots in self.knots)

    @property
    def shrink(self) -> float:
        """What inputs are multiplied by to be trained on: below 1 of wide tables, as Adam moves each weight equally far."""
        return min(1.0, _ORDINARY / self.scaler.width)

    def transform(self, x: Array) -> Tensor:
        """(n, features) -> (n, width) in float32."""
        z = self.scaler.transform(x).numpy()
        out = np.empty((len(x), self.width), np.float32)
        out[:, : x.shape[1]] = z / np.sqrt(1 + np.square(z / _SOFT))
        place = x.shape[1]
        for column, knots, few in zip(x.T, self.knots, self.few, strict=True):
            with np.errstate(over="ignore"):  # beyond the end of a step, however narrow it is
                steps = np.clip((column[:, None] - knots[:-1]) / np.diff(knots), 0, 1) - 0.5
            out[:, place : place + steps.shape[1]] = steps if few else _FINE * steps
            place += steps.shape[1]
        return torch.from_numpy(out)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.scaler.to_dict(), "knots": [knots.tolist() for knots in self.knots], "few": self.few}

    def from_dict(self, kept: Mapping[str, Any], features: int) -> Self:
        """What `to_dict` gave, for so many columns. Raises KeyError, TypeError or ValueError for anything else."""
        self.scaler = Scaler().from_dict(kept, features)
        self.knots = [_finite(knots, len(knots)) for knots in kept["knots"]]
        self.few = [bool(few) for few in kept["few"]]
        if not len(self.knots) == len(self.few) == features or any((np.diff(knots) <= 0).any() for knots in self.knots):
            raise ValueError(f"rising knots for {features} columns expected")
        return self


def _knots(column: Array, weights: Array, levels: int, steps: int) -> tuple[Array, bool]:
    """Where the steps of a staircase begin and end, and whether these are all values; a single knot makes no step."""
    values = np.unique(column)
    if len(values) < 3 or steps < 2:
        return values[:1], True
    if len(values) <= levels:
        return values, True
    order = np.argsort(column, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.linspace(0, 1, steps + 1) * reached[-1]).clip(max=len(order) - 1)
    return np.unique(column[order[places]]), False
