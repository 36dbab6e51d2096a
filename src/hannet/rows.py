"""The rows of a table before a network sees them: each once, some held out, columns scaled."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_FEWEST = 20  # rows to hold some out for validation: a tenth of fewer tells nothing
_FAR = 1e6  # standard deviations: an input further off counts as this far, so that float32 stays finite


class Scaler:
    """(x - mean) / std of each column, 0 for a constant one.  x: (n, features) -> (n, width) in float32."""

    def fit(self, x: Array, weights: Array) -> Self:
        """Weighted mean and std, c and 0 to the bit where all are c.  x: (n, features); weights: (n,)."""
        self.mean: Array = x[0] + np.average(x - x[0], axis=0, weights=weights)
        self.std: Array = np.sqrt(np.average(np.square(x - self.mean), axis=0, weights=weights))
        return self

    @property
    def width(self) -> int:
        """Columns that come out."""
        return len(self.mean)

    def transform(self, x: Array) -> Tensor:
        """(n, features) -> (n, width) in float32."""
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


def distinct(x: Array, y: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Each row once, with the sum of its weights, in an order of their own.  x: (n, features); y: (n, k); weights: (n,).

    A row given twice is then a row of twice the weight, to the bit, and never both trained on and held out.
    """
    rows = np.hstack([x, y]) + 0.0  # -0.0 becomes 0.0, as bytes are compared: three times faster than numbers
    as_bytes = rows.view(np.dtype((np.void, rows.strides[0]))).ravel()
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights).astype(np.float64)
    return rows[first, : x.shape[1]], rows[first, x.shape[1] :], sums


def held_out(strata: NDArray[Any], fraction: float, rng: np.random.RandomState) -> NDArray[np.bool_]:
    """A mask of rows for validation: the same share of each stratum, never all of one.  strata: (n,); none if n < 20."""
    held = np.zeros(len(strata), bool)
    if len(strata) < _FEWEST:
        return held
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    rest = np.delete(order, np.unique(strata[order], return_index=True)[1])
    count = min(round(fraction * len(strata)), len(rest))
    held[rest[((np.arange(count) + 0.5) / max(count, 1) * len(rest)).astype(int)]] = True
    return held


def mean_one(weights: Array) -> Tensor:
    """Weights whose mean is 1, in float32.  (n,) -> (n,)."""
    return torch.from_numpy(weights * (len(weights) / weights.sum() if len(weights) else 1.0)).float()
