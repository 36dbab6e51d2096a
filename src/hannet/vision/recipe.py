"""How a classifier of images is trained, as plain values."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .augmentation import IMAGENET_MEAN, IMAGENET_STD, Augmentation, normalise

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ImageRecipe:
    """How a classifier of images is trained: AdamW, the rate x factor at each milestone, a share of all steps (Table 11).

    batch: images a step, of all processes together. resize: what images are enlarged to on the device, after augmentation.
    ema: decay of the average of the weights that is measured and kept instead of the last; 0 for none.
    precision: "fp32", or "bf16" or "fp16" for what autocast computes in them. Raises ValueError for anything impossible.
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    milestones: tuple[float, ...] = (0.7, 0.9)
    factor: float = 0.2
    batch: int = 256
    epochs: int = 600
    augmentation: Augmentation = field(default_factory=Augmentation)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: int | None = None
    ema: float = 0.0
    precision: str = "fp32"
    channels_last: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"lr must be above 0 and weight_decay at least 0, got {self.lr} and {self.weight_decay}")
        if not 0 < self.factor < math.inf or not all(0 <= milestone <= 1 for milestone in self.milestones):
            raise ValueError(
                f"factor must be above 0 and milestones from 0 to 1, got {self.factor} and {self.milestones}"
            )
        sizes = (self.batch, self.epochs, *([] if self.resize is None else [self.resize]))
        if any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(
                f"batch, epochs and resize must be integers, at least 1, got {self.batch}, {self.epochs}, {self.resize}"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"mean must be finite and std above 0, got {self.mean} and {self.std}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def differences(self) -> dict[str, Any]:
        """What differs from the default recipe, as plain values, so that a record keeps its name when a recipe learns something new."""
        standard, ours = asdict(ImageRecipe()), asdict(self)
        return {f.name: ours[f.name] for f in fields(self) if ours[f.name] != standard[f.name]}

    def rate(self, done: float) -> float:
        """The learning rate when a share of all steps is done."""
        return self.lr * self.factor ** sum(done >= milestone for milestone in self.milestones)

    def prepare(self, x: Tensor) -> Tensor:
        """What the network takes.  x: (n, channels, h, w), uint8 -> float32, normalised and resized."""
        out = normalise(x, self.mean, self.std)
        return F.interpolate(out, size=self.resize, mode="bilinear") if self.resize else out
