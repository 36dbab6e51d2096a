"""What the networks for images share: the check of their input and what the model card saved beside them tells."""

from typing import Any

from torch import Tensor

TAG = "image-classification"


def facts(what: str, classes: int, image: str) -> dict[str, str]:
    """What the card says of one model: `what` it is made of, its number of `classes`, the shape of an `image`."""
    task = (
        f"Task: one score for each of {classes} classes from images (n, {image}, scaled and normalised as in training."
    )
    return {"what": what, "task": task}


def require_images(x: Tensor, shape: str, fits: bool) -> None:
    """Raises ValueError for images that do not fit, with the `shape` that was expected; TypeError for images of integers."""
    if x.dim() != 4 or not fits:
        raise ValueError(f"images must be {shape}, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"images must be floating point, got {x.dtype}; scale and normalise them as in training")


def require_integers(values: Any, name: str, count: int) -> tuple[int, ...]:
    """The values as a tuple. Raises ValueError unless they are `count` positive integers."""
    given = tuple(values) if isinstance(values, list | tuple) else ()
    if len(given) != count or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in given):
        raise ValueError(f"{name} must be {count} positive integers, got {values!r}")
    return given
