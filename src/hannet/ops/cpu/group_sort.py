"""GroupSort on the CPU, for training: neighbouring features sorted in groups, and the places that they came from.

torch.sort alone takes five times as long for groups of five. Here many groups are sorted side by side: a block of them is
laid out with one row a place in the group, so that every exchange of the sorting network is one vector operation.
"""

import numpy as np
from numba import njit

from . import cache

_BLOCK = 256  # groups sorted side by side: they stay in the first-level cache


def cached(function):
    """numba.njit(nogil=True, cache=True), with the cache that no damage ends."""
    return cache.keep(njit(nogil=True)(function), function)


@cached
def sort_groups(x, group, descending, y, places):
    """y: x, flat, sorted in groups of `group` (256 at most); places: where in its group each of y's values came from.

    Beside a NaN, which no comparison moves, the others of its group may end in any order.
    """
    if group == 2:
        _sort_pairs(x, descending, y, places)
        return
    values, origins = np.empty((group, _BLOCK), x.dtype), np.empty((group, _BLOCK), x.dtype)
    groups = x.size // group
    for start in range(0, groups, _BLOCK):
        size = min(_BLOCK, groups - start)
        first = start * group
        for i in range(group):
            for j in range(size):
                values[i, j] = x[first + j * group + i]
                origins[i, j] = i
        for turn in range(group):  # odd-even transposition: `group` turns sort `group` values
            for i in range(turn % 2, group - 1, 2):
                _exchange(values, origins, i, size, descending)
        for i in range(group):
            for j in range(size):
                y[first + j * group + i] = values[i, j]
                places[first + j * group + i] = np.uint8(origins[i, j])


@njit(nogil=True)
def _sort_pairs(x, descending, y, places):
    """The same of groups of two, in registers."""
    for i in range(0, x.size - 1, 2):
        a, b = x[i], x[i + 1]
        swap = (a < b) if descending else (a > b)
        y[i] = b if swap else a
        y[i + 1] = a if swap else b
        places[i], places[i + 1] = swap, not swap


@njit(nogil=True)
def _exchange(values, origins, i, size, descending):
    for j in range(size):
        a, b, origin_a, origin_b = values[i, j], values[i + 1, j], origins[i, j], origins[i + 1, j]
        swap = (a < b) if descending else (a > b)
        values[i, j] = b if swap else a
        values[i + 1, j] = a if swap else b
        origins[i, j] = origin_b if swap else origin_a
        origins[i + 1, j] = origin_a if swap else origin_b


@cached
def unsort_groups(grad_y, places, group, grad_x):
    """Puts every value back to the place it came from."""
    if group == 2:
        for i in range(0, grad_y.size - 1, 2):
            swapped, a, b = places[i] != 0, grad_y[i], grad_y[i + 1]
            grad_x[i] = b if swapped else a
            grad_x[i + 1] = a if swapped else b
        return
    for start in range(0, grad_y.size, group):
        for i in range(group):
            grad_x[start + places[start + i]] = grad_y[start + i]
