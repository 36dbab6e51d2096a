"""The sizes of a call, as the kernels of both kinds of device need them."""

import math
from collections.abc import Sequence


def call_shape(x: Sequence[int], u: Sequence[int], dim: int = -1) -> tuple[int, int, int, int]:
    """(members, rows, layers, width), whatever dimensions the call leaves out; rows are all that stands before the features."""
    members, leading = (u[0], x[1:dim]) if len(u) == 3 else (1, x[:dim])
    return members, math.prod(leading), 1 if len(u) == 1 else u[-2], u[-1]
