"""How a classifier of images is trained, as plain values."""

import math
from dataclasses import dataclass, field

from ..train.recipe import Recipe
from .augmentation import IMAGENET_MEAN, IMAGENET_STD, Augmentation


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """How a classifier of images is trained, by default as in Table 11: a Recipe with an input pipeline.

    Args:
        augmentation: Random changes to the training images.
        mean: Subtracted from pixels in [0, 1], a number for each channel.
        std: What the difference is divided by.
        resize: What images are enlarged to on the device, after augmentation.
        channels_last: Whether network and images lie in memory with the channels last, which is faster.

    Raises:
        ValueError: A value is out of range.

    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    milestones: tuple[float, ...] = (0.7, 0.9)
    batch: int = 256
    epochs: int = 600
    optimizer: str = "adamw"
    loss: str = "cross_entropy"
    augmentation: Augmentation = field(default_factory=Augmentation)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: int | None = None
    channels_last: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lr < math.inf or not self.weight_decay < math.inf:
            raise ValueError(f"lr and weight_decay must be finite, got {self.lr} and {self.weight_decay}")
        if self.epochs < 1 or (self.resize is not None and (type(self.resize) is not int or self.resize < 1)):
            raise ValueError(f"epochs and resize must be integers, at least 1, got {self.epochs} and {self.resize}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"mean must be finite and std above 0, got {self.mean} and {self.std}")
