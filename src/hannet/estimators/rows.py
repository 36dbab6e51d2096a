"""The rows that members train on: each once, with weights of one unit, some held out for validation."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length, column_or_1d
from torch import Tensor

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

FEWEST = 20  # rows to hold some out for validation: a tenth of fewer tells nothing
_DIGITS = 21  # binary ones of a weight: far more than a loss can tell, far fewer than rounding spoils
_PARTS = 20  # groups are dealt to so many, of which each member holds out its share


def unit_scale(weights: Array) -> Array:
    """Weights times a power of two, which rounds none of them, so that sums stay finite: the largest from 1/2 to 1."""
    _, exponent = np.frexp(weights.max(initial=0.0))
    return np.ldexp(weights, -int(exponent))


def relative_weights(weights: Array) -> Array:
    """Weights by their lower median, rounded, so that the unit they are given in changes no bit of a model.

    A multiple of the weights differs in their last digits, which are rounded away. Integers beside a median of 1 stay themselves.
    """
    unit = np.quantile(weights, 0.5, method="lower")
    if unit <= 1e-100 * weights.max():
        unit = weights.max()
    digits, exponent = np.frexp(weights / unit)
    return np.ldexp(np.round(np.ldexp(digits, _DIGITS)), exponent - _DIGITS)


def mean_one(weights: Array) -> Tensor:
    """Weights whose mean is 1, in float32.  (n,) -> (n,)."""
    return torch.from_numpy(weights * (len(weights) / weights.sum() if len(weights) else 1.0)).float()


def group_codes(groups: Any, y: NDArray[Any]) -> Array:
    """Labels of groups, of any kind, as numbers that do not depend on the order of the rows; 0 without.  -> (n,)."""
    if groups is None:
        return np.zeros(len(y))
    labels = column_or_1d(groups)
    check_consistent_length(labels, y)
    labels = labels.astype(str) if labels.dtype == object else labels
    return np.unique(labels, return_inverse=True)[1].astype(np.float64)


def distinct(x: Array, y: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Each row once, with the sum of its weights, in an order of their own.  x: (n, features); y: (n, k); weights: (n,).

    A row given twice is then a row of twice the weight, to the bit, and never both trained on and held out.
    """
    # -0.0 becomes 0.0, as bytes are compared: three times faster than numbers.
    rows = np.ascontiguousarray(np.hstack([x, y]) + 0.0)
    as_bytes = rows.view(np.dtype((np.void, rows.strides[0]))).ravel()
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights).astype(np.float64)
    return rows[first, : x.shape[1]], rows[first, x.shape[1] :], sums


def same_features(x: Array) -> Array:
    """A number for each row, the same for rows that are equal; x: (n, features), as `distinct` gave it.  -> (n,)."""
    return np.concatenate([[0.0], (x[1:] != x[:-1]).any(1).cumsum()])


def validation_rows(strata: NDArray[Any], fraction: float, members: int, rng: np.random.RandomState) -> Rows:
    """Rows that each member holds out for validation, (members, m): the same share of each stratum, never all of one.

    Members hold out other rows as long as there are such, so fraction = 1 / members gives the folds of a cross-validation.
    strata: (n,); m = 0 if n < 20.
    """
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)[1:]
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    spread = np.argsort(rank / np.repeat(sizes, sizes), kind="stable")  # any run of rows has its share of each stratum
    rest = order[spread[rank[spread] > 0]]
    count = 0 if len(strata) < FEWEST else min(round(fraction * len(strata)), len(rest))
    return rest[(np.arange(members)[:, None] * count + np.arange(count)) % max(len(rest), 1)]


def group_validation_rows(
    strata: NDArray[Any], groups: Array, fraction: float, members: int, rng: np.random.RandomState
) -> Rows:
    """Rows that each member holds out for validation, all or none of a group, (members, m), filled up with n.

    Groups are dealt by their most frequent stratum and their size, so that members hold out about the same share of each, and
    other groups as long as there are such. Groups without which a stratum would be lost to a member are not held out by it.
    strata, groups: (n,); m = 0 if n < 20, or with one group.
    """
    n, place = len(strata), np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(place)
    parts = min(_PARTS, len(sizes))
    count = min(max(1, round(fraction * parts)), parts - 1) if fraction > 0 and n >= FEWEST else 0
    codes = np.unique(strata, return_inverse=True)[1]
    pairs, often = np.unique(np.stack([place, codes]), axis=1, return_counts=True)
    ranked = pairs[:, np.lexsort((-often, pairs[0]))]
    usual = ranked[1, np.unique(ranked[0], return_index=True)[1]]
    order = rng.permutation(len(sizes))
    order = order[np.lexsort((sizes[order], usual[order]))]  # at random within equal ones
    part = np.empty(len(sizes), np.int64)
    part[order] = rng.permutation(parts)[np.arange(len(sizes)) % parts]
    found = []
    for member in range(members):
        held = np.isin(part, (member * count + np.arange(count)) % parts)
        lost = np.setdiff1d(codes, codes[~held[place]])
        held[place[np.isin(codes, lost)]] = False
        found.append(np.flatnonzero(held[place]))
    rows = np.full((members, max(map(len, found))), n)
    for row, mine in zip(rows, found, strict=True):
        row[: len(mine)] = mine
    return rows


def complement(rows: Rows, n: int) -> Rows:
    """The rows of n that each member does not hold out, filled up with n where others have more.  (members, m) -> (members, k)."""
    taught = np.ones((len(rows), n + 1), bool)
    np.put_along_axis(taught, rows, values=False, axis=1)
    taught[:, n] = False
    counts = taught.sum(1)
    out = np.full((len(rows), counts.max(initial=0)), n)
    out[np.arange(out.shape[1]) < counts[:, None]] = np.nonzero(taught)[1]
    return out
