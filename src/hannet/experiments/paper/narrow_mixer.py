"""Han-Mixer blocks and Mixer blocks behind a narrow stem: Table 12 in little, for a processor.

64 channels, all of CIFAR-10, ten epochs with crops and flips, AdamW. One Mixer block has exactly the parameters of 33 Han-Mixer
blocks. Not in the paper. One seed of the four networks takes about an hour of one core.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...vision.augmentation import Augmentation
from ...vision.recipe import ImageRecipe
from ..verdicts import Comparison
from . import _vision
from ._vision import Network

CHANNELS = (16, 32, 64, 64, 64)
EPOCHS = 10


@dataclass(frozen=True)
class Experiment(_vision.Experiment):
    """The four networks for some seeds."""

    title: ClassVar[str] = "Narrow Mixers"
    stem: ClassVar[str] = "narrow-mixer"
    comparisons: ClassVar[tuple[Comparison, ...]] = ()
    datasets: ClassVar[tuple[str, ...]] = ("cifar10",)
    networks: ClassVar[Mapping[str, Network]] = {
        "stem": Network("stem alone", {"mlp_blocks": 0, "han_blocks": 0}),
        "mlp1": Network("MLP(1)", {"mlp_blocks": 1, "han_blocks": 0}),
        "han16": Network("Han(16)", {"mlp_blocks": 0, "han_blocks": 16}),
        "han33": Network("Han(33)", {"mlp_blocks": 0, "han_blocks": 33}),
    }
    parts: ClassVar[tuple[str, ...]] = tuple(networks)

    def protocol(self) -> ImageRecipe:
        """Table 11, but for length and augmentation."""
        return ImageRecipe(epochs=EPOCHS, augmentation=Augmentation(padding=4, flip=True))

    def options(self, part: str) -> dict[str, Any]:
        """The narrow stem and the blocks."""
        sizes = {"image_size": 32, "num_classes": 10, "channels": list(CHANNELS)}
        return {"kind": "HanMixer", **sizes, **self.networks[part].options}
