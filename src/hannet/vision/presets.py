"""The networks that `hannet train images` trains, by name: their settings, how they are built, and how they are trained.

A preset names what it builds (`kind`) in the table of classes of models/registry.py, by which a saved network is loaded again. An
entry of PRESETS is all that another `--model` takes, and one in that table if its class is new. `hannet --help` reads PRESETS: what
needs PyTorch is imported inside the functions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from . import SettingError

if TYPE_CHECKING:
    from torch import nn

    from ..data import Images
    from ..train.recipe import Recipe
    from .augmentation import Augmentation
    from .preprocessing import Preprocessing
    from .recipe import ImageRecipe
    from .splits import DataSplits

Settings = Mapping[str, Any]

BATCH = 256
MOBILEVIT_SIZE = 256  # of pictures in pixels; 64 for all other networks
LIPSCHITZ = {"width": None, "depth": 4, "reflections": 32, "lr": 3e-3}  # defaults of a hannet to certify
_ABOVE_0 = (lambda value: 0 < value < math.inf, "above 0 and finite")
_AT_LEAST_0 = (lambda value: 0 <= value < math.inf, "at least 0 and finite")
LIMITS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "lr": _ABOVE_0,
    "weight_decay": _AT_LEAST_0,
    "ema": (lambda value: 0 < value < 1, "between 0 and 1"),
    "minutes": _AT_LEAST_0,
    "temperature": _ABOVE_0,
    "margin": _ABOVE_0,
}
LOSS_SETTINGS = {"cross-entropy": "temperature", "multi-margin": "margin", "hkr": "margin"}
_REPORTED = ("optimizer", "lr", "schedule", "weight_decay", "batch", "iterations", "loss")  # of a Recipe


@dataclass(frozen=True)
class ModelPreset:
    """A network to choose by name.

    kind: its name in the registry of models. build: from settings and images to the arguments of the network. trainer: from settings
    and data to the recipe. defaults: the settings that it has; None where the default depends on the data. size: of a folder's
    pictures. flat: whether it takes rows of pixels; then it trains in one process.
    """

    name: str
    kind: str
    build: "Callable[[Settings, Images], dict[str, Any]]"
    trainer: "Callable[[Settings, DataSplits], Recipe | ImageRecipe]"
    defaults: Settings
    size: int = 64
    flat: bool = False

    @property
    def bytes_per_value(self) -> int:
        """Memory that a channel of a pixel takes: as a byte, and in rows of pixels as a float too."""
        return 5 if self.flat else 1

    @property
    def options(self) -> frozenset[str]:
        """The settings that it has."""
        return frozenset(self.defaults)

    def resolve(self, given: Settings) -> dict[str, Any]:
        """All settings: those given, where they are neither None nor False, and defaults. Raises SettingError."""
        chosen = {name: value for name, value in given.items() if value is not None and value is not False}
        if foreign := [name for name in chosen if name not in self.options]:
            raise SettingError(f"{self.name} has no such setting: leave it out", foreign[0])
        for name, (holds, limit) in LIMITS.items():
            if name in chosen and not holds(chosen[name]):
                raise SettingError(f"must be {limit}, got {chosen[name]}", name)
        settings = {**self.defaults, **(LIPSCHITZ if chosen.get("lipschitz") else {}), **chosen}
        loss = settings.get("loss", "cross-entropy")
        for name in {"temperature", "margin"} - {LOSS_SETTINGS[loss]}:
            if name in chosen:
                raise SettingError(f"the loss {loss} has no such setting: leave it out", name)
        return settings

    def build_network(self, settings: Settings, images: "Images", seed: int) -> "tuple[nn.Module, dict[str, Any]]":
        """The network, its initial weights fixed by the seed, and its arguments. Raises SettingError if it cannot be built."""
        from ..models.registry import build_model

        arguments = self.build(settings, images)
        try:
            return build_model(self.kind, seed, **arguments), arguments
        except ValueError as error:
            raise SettingError(str(error)) from error
        except RuntimeError as error:  # the allocator's
            raise SettingError("a network of this size does not fit into memory") from error


def batch_size(requested: int | None, images: int, processes: int) -> int:
    """Images a step: those requested, or BATCH or an eighth of a few images. Raises SettingError for what cannot be."""
    batch = requested or min(BATCH, max(1, images // 8))
    if batch > images:
        raise SettingError(f"only {images:,} images train", "batch")
    if batch % processes:
        raise SettingError(f"must be a multiple of {processes}, the number of processes, got {batch}", "batch")
    return batch


def _build_flat(settings: Settings, images: "Images") -> dict[str, Any]:
    pixels = math.prod(images.x.shape[1:])
    sizes = {name: settings[name] for name in ("width", "depth", "reflections", "lipschitz") if name in settings}
    sizes["width"] = sizes["width"] or max(1024, pixels)
    return {"in_features": pixels, "out_features": len(images.classes), **sizes}


def _build_mixer(settings: Settings, images: "Images") -> dict[str, Any]:
    channels, size, _ = images.x.shape[1:]
    width = settings["width"]
    if width % 8:
        raise SettingError(f"must be a multiple of 8, got {width}", "width")
    return {
        "image_size": size,
        "num_classes": len(images.classes),
        "channels": [width // 8, width // 4, width // 2, width, width],
        "mlp_blocks": settings["mlp_blocks"],
        "han_blocks": settings["depth"],
        "strides": _strides(size),
        "in_channels": channels,
    }


def _strides(size: int) -> list[int]:
    """Strides of the stem: as in the paper for images of 32 and of 96 pixels, so that there are not many more than 14 x 14 tokens."""
    if size <= 40:
        return [1, 2, 1, 2]
    return [1, 2, 2, 2] if size <= 112 else [2, 2, 2, 2]


def _build_mobilevit(settings: Settings, images: "Images", *, variant: str) -> dict[str, Any]:
    channels, size, _ = images.x.shape[1:]
    if channels != 3:
        raise SettingError(f"takes images of three colours, these have {channels}", "model")
    if size > MOBILEVIT_SIZE and size % 64:
        fault = f"mobilevit-{variant} takes images of at most 256 pixels, or of a multiple of 64, got {size}"
        raise SettingError(fault, "size")
    return {"num_classes": len(images.classes), "size": variant, "block": "han"}


def _common(settings: Settings) -> dict[str, Any]:
    """What all recipes have of the settings."""
    import torch

    loss = settings["loss"]
    names = ("lr", "weight_decay", "batch", "epochs", "ema", LOSS_SETTINGS[loss])
    precision = settings["precision"] or ("bf16" if torch.cuda.is_available() else "fp32")
    return {name: settings[name] for name in names} | {"loss": loss.replace("-", "_"), "precision": precision}


def _flat_recipe(settings: Settings, splits: "DataSplits") -> "Recipe":
    from ..train.recipe import Recipe

    iterations = settings["epochs"] * (len(splits.training.y) // settings["batch"])
    options = _common(settings) | {"precision": settings["precision"] or "fp32", "epochs": 0, "iterations": iterations}
    return Recipe(schedule="cosine", optimizer="adam", **options)


def _image_recipe(settings: Settings, splits: "DataSplits", *, resize: int = 0) -> "ImageRecipe":
    """resize: pixels that smaller images are enlarged to."""
    from .recipe import ImageRecipe

    channels, size, _ = splits.training.x.shape[1:]
    augment = settings["augment"] or ("crop" if splits.name == "mnist" else "flip")
    named: dict[str, Any] = _common(settings) | {"augmentation": _augmentation(augment, size)}
    if channels != 3:
        named |= {"mean": (0.5,), "std": (0.25,)}
    return ImageRecipe(**named, resize=resize if size < resize else None)


def _augmentation(name: str, size: int) -> "Augmentation":
    """none; crop: an eighth of the image may be lost; flip: and mirrored; auto: and the auto-augment policy and Cutout."""
    from .augmentation import Augmentation

    padding = 0 if name == "none" else size // 8
    policy, cutout = ("cifar10", size // 2) if name == "auto" else ("", 0)
    return Augmentation(padding, name in ("flip", "auto"), policy, cutout)


def preprocessing_of(recipe: "Recipe | ImageRecipe", images: "Images") -> "Preprocessing":
    """What a network trained with the recipe takes images through."""
    from .preprocessing import Preprocessing
    from .recipe import ImageRecipe

    channels, size, _ = images.x.shape[1:]
    options: dict[str, Any]
    if isinstance(recipe, ImageRecipe):
        options = {"mean": recipe.mean, "std": recipe.std, "resize": recipe.resize}
    else:
        options = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "flat": True}
    return Preprocessing(channels, size, images.classes, **options, pixel_range=images.pixel_range)


def report_recipe(recipe: "Recipe | ImageRecipe") -> dict[str, Any]:
    """The settings of a recipe that have a meaning with its loss."""
    from .recipe import ImageRecipe

    if isinstance(recipe, ImageRecipe):
        return asdict(recipe)
    constants = {"cross_entropy": ("temperature",), "multi_margin": ("margin",), "hkr": ("margin", "alpha")}
    used = [name for name in ("ema", "precision") if name in recipe.differences()]
    return {name: getattr(recipe, name) for name in (*_REPORTED, *constants[recipe.loss], *used)}


_COMMON = {"lr": 1e-3, "batch": None, "epochs": 20, "loss": "cross-entropy", "temperature": 1.0, "margin": 1.0}
_COMMON |= {"precision": None, "ema": 0.0, "minutes": 10.0}
_FLAT = {**_COMMON, "weight_decay": 0.0}
_IMAGES = {**_COMMON, "weight_decay": 0.1, "augment": None}
_HANNET = {**_FLAT, "width": 784, "depth": 20, "reflections": 1, "lipschitz": False}
_MIXER = {**_IMAGES, "width": 512, "depth": 16, "mlp_blocks": 0}
_MOBILEVIT: dict[str, Any] = {"trainer": partial(_image_recipe, resize=MOBILEVIT_SIZE), "size": MOBILEVIT_SIZE}
_MOBILEVIT |= {"kind": "MobileViT", "defaults": _IMAGES}
_ALL = (
    ModelPreset("hannet", "HanNet", _build_flat, _flat_recipe, _HANNET, flat=True),
    ModelPreset("fcnet", "FCNet", _build_flat, _flat_recipe, {**_FLAT, "width": 784, "depth": 1}, flat=True),
    ModelPreset("han-mixer", "HanMixer", _build_mixer, _image_recipe, _MIXER),
    ModelPreset("mobilevit-xxs", build=partial(_build_mobilevit, variant="xxs"), **_MOBILEVIT),
    ModelPreset("mobilevit-xs", build=partial(_build_mobilevit, variant="xs"), **_MOBILEVIT),
)
PRESETS: Mapping[str, ModelPreset] = {preset.name: preset for preset in _ALL}
SETTINGS = frozenset(name for preset in _ALL for name in preset.options)
