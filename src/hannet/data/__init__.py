"""The paper's data, made by formula or read from the files of their publishers, and a user's own images."""

from dataclasses import dataclass

from torch import Tensor


class DataError(RuntimeError):
    """A data set that is missing, cut short or not what its publisher wrote; the message is one sentence for the user."""


@dataclass(frozen=True)
class Images:
    """x: (n, channels, height, width), uint8; y: (n,), int64, positions in classes; notes: what to say beside a result."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
