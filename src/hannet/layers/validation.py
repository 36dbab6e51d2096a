"""Checks of arguments and of inputs."""

from typing import Any

from torch import Tensor


def require_positive(**sizes: int) -> None:
    """Raises ValueError for a size that is not a positive integer."""
    for name, size in sizes.items():
        if not _is_positive(size):
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def require_images(x: Tensor, shape: str, fits: bool) -> None:
    """Raises ValueError for images that do not fit, with the `shape` that was expected; TypeError for images of integers."""
    if x.dim() != 4 or not fits:
        raise ValueError(f"images must be {shape}, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"images must be floating point, got {x.dtype}; scale and normalise them as in training")


def require_integers(values: Any, name: str, count: int) -> tuple[int, ...]:
    """The values as a tuple. Raises ValueError unless they are `count` positive integers."""
    given = tuple(values) if isinstance(values, list | tuple) else ()
    if len(given) != count or not all(map(_is_positive, given)):
        raise ValueError(f"{name} must be {count} positive integers, got {values!r}")
    return given
