"""Table 14: MobileViT with Han-blocks in its transformers keeps its accuracy with half of its parameters.

STL10, CIFAR-10 and CIFAR-100 (`--dataset`), all resized to 256x256; `--config` chooses rows, `--epochs` trains shorter. AdamW, 300
epochs: days of a processor, hours of a GPU; see docs/vision.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...vision.recipe import ImageRecipe
from . import _vision
from ._vision import Network
from .table12 import CLASSES, SETS, augmentation

RESIZE = 256


def _network(size: str, block: str, parameters: float, *errors: float) -> Network:
    kinds = {"mlp": "feed-forward", "han": "Han-blocks"}
    label = f"MobileViT-{size.upper()}, {kinds[block]}"
    published = {name: (error,) for name, error in zip(SETS, errors, strict=True)}
    return Network(label, {"size": size, "block": block}, dict.fromkeys(SETS, parameters), published)


@dataclass(frozen=True)
class Experiment(_vision.Experiment):
    """Table 14 for one set of images, and some seeds and rows."""

    title: ClassVar[str] = "Table 14: MobileViT"
    stem: ClassVar[str] = "table14"
    datasets: ClassVar[tuple[str, ...]] = SETS
    networks: ClassVar[Mapping[str, Network]] = {
        "xxs-mlp": _network("xxs", "mlp", 1.01, 12.4, 4.4, 22.7),
        "xxs-han": _network("xxs", "han", 0.55, 12.0, 4.5, 22.5),
        "xs-mlp": _network("xs", "mlp", 2.00, 11.5, 4.2, 21.1),
        "xs-han": _network("xs", "han", 0.97, 11.0, 3.9, 20.4),
    }
    parts: ClassVar[tuple[str, ...]] = tuple(networks)

    def protocol(self) -> ImageRecipe:
        """Table 13; the images are changed at their own size, then resized."""
        batch = 64 if self.dataset == "stl10" else 128
        return ImageRecipe(batch=batch, epochs=300, augmentation=augmentation(self.dataset), resize=RESIZE)

    def options(self, part: str) -> dict[str, Any]:
        """Size and block."""
        return {"kind": "MobileViT", "num_classes": CLASSES[self.dataset], **self.networks[part].options}
