"""Table 12: behind the same convolutions, sixteen Han-Mixer blocks do as well as Mixer blocks of 25 times their parameters.

CIFAR-10, CIFAR-100, STL10 and Downsampled-ImageNet (`--dataset`); `--config` chooses rows, `--epochs` trains shorter. AdamW,
random crop and flip, the auto-augment policy for CIFAR, Cutout. All 600 epochs of one row on CIFAR-10 are 30 million images:
for a GPU, see docs/vision.md; narrow-mixer is a small version that a processor can train.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...vision.augmentation import Augmentation
from ...vision.recipe import ImageRecipe
from . import _vision
from ._vision import Network

SETS = ("stl10", "cifar10", "cifar100")
IMAGENET = "downsampled-imagenet"
CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, IMAGENET: 1000}
_LENGTH = {"cifar10": (256, 600), "cifar100": (256, 600), "stl10": (64, 300), IMAGENET: (512, 300)}  # batch, epochs


def augmentation(dataset: str) -> Augmentation:
    """Section 5.3: crop, flip, the auto-augment policy for CIFAR-10, Cutout, as large as the set's images ask for."""
    padding, cutout = (12, 32) if dataset == "stl10" else (4, 16)
    return Augmentation(padding=padding, flip=True, policy="cifar10", cutout=cutout)


def _network(mlp: int, han: int, small: tuple[float, ...] = (), large: tuple[float, ...] = ()) -> Network:
    """small: the paper's millions of parameters and errors on SETS; large: the same and top-5 error on ImageNet."""
    label = f"MLP({mlp}) + Han({han})" if han else f"MLP({mlp})" if mlp else "stem alone"
    parameters = {**dict.fromkeys(SETS, small[0])} if small else {}
    errors: dict[str, tuple[float, ...]] = {name: (error,) for name, error in zip(SETS, small[1:], strict=False)}
    if large:
        parameters[IMAGENET], errors[IMAGENET] = large[0], large[1:]
    return Network(label, {"mlp_blocks": mlp, "han_blocks": han}, parameters, errors)


@dataclass(frozen=True)
class Experiment(_vision.Experiment):
    """Table 12 for one set of images, and some seeds and rows."""

    title: ClassVar[str] = "Table 12: Mixers"
    stem: ClassVar[str] = "table12"
    datasets: ClassVar[tuple[str, ...]] = tuple(CLASSES)
    networks: ClassVar[Mapping[str, Network]] = {
        "stem": _network(0, 0, (1.82, 18.2, 7.2, 27.8), (8.28, 55.7, 31.2)),
        "mlp2": _network(2, 0, (2.89, 18.2, 5.3, 27.2)),
        "mlp4": _network(4, 0, (3.96, 18.7, 5.5, 27.1), (16.7, 44.2, 21.2)),
        "mlp8": _network(8, 0, (), (27.2, 42.6, 20.2)),
        "han16": _network(0, 16, (1.86, 15.3, 5.9, 26.7), (8.35, 48.9, 26.1)),
        "mlp1-han16": _network(1, 16, (2.39, 16.7, 5.0, 24.6)),
        "mlp2-han16": _network(2, 16, (2.93, 17.1, 4.7, 24.4)),
        "mlp4-han16": _network(4, 16, (4.00, 17.8, 4.6, 24.7), (16.8, 41.1, 19.2)),
    }
    parts: ClassVar[tuple[str, ...]] = tuple(networks)

    def chosen(self) -> dict[str, Network]:
        """The rows asked for; of those that the paper leaves out for this set, only by name."""
        return {part: row for part, row in super().chosen().items() if self.only or self.dataset in row.errors}

    def protocol(self) -> ImageRecipe:
        """Table 11."""
        batch, epochs = _LENGTH[self.dataset]
        return ImageRecipe(batch=batch, epochs=epochs, augmentation=augmentation(self.dataset))

    def options(self, part: str) -> dict[str, Any]:
        """Stem and blocks, sized for the set."""
        size = {"image_size": 96 if self.dataset == "stl10" else 32, "num_classes": CLASSES[self.dataset]}
        wide = {"channels": [128, 256, 512, 1024, 1024]} if self.dataset == IMAGENET else {}
        strides = {"strides": [1, 2, 2, 2]} if self.dataset == "stl10" else {}
        return {"kind": "HanMixer", **size, **wide, **strides, **self.networks[part].options}
