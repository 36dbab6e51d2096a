"""The networks that `hannet train images` trains: their sizes, by default and as asked for, and how they are trained by default."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    from torch import nn

    from ..data import Images
    from .augmentation import Augmentation
    from .recipe import ImageRecipe

Model = Literal["hannet", "fcnet", "han-mixer", "mobilevit-xxs", "mobilevit-xs"]
ON_ROWS = ("hannet", "fcnet")  # they take an image as a row of pixels, and train in memory of their own
PICTURE_SIZE = {"mobilevit-xxs": 256, "mobilevit-xs": 256}  # of a folder's pictures; 64 for all others
OWN = {  # settings of some models only
    "lipschitz": ("hannet",),
    "reflections": ("hannet",),
    "width": ("hannet", "fcnet", "han-mixer"),
    "depth": ("hannet", "fcnet", "han-mixer"),
    "mlp_blocks": ("han-mixer",),
    **dict.fromkeys(("loss", "temperature", "margin"), ON_ROWS),
    **dict.fromkeys(("augment", "precision", "ema", "minutes"), ("han-mixer", "mobilevit-xxs", "mobilevit-xs")),
}


class Shape(NamedTuple):
    """What was asked for; None for the default."""

    width: int | None = None
    depth: int | None = None
    reflections: int | None = None
    mlp_blocks: int | None = None
    lipschitz: bool = False


def require_own(model: Model, given: Mapping[str, Any]) -> None:
    """Refuses settings that were given and that the model has not."""
    for name, value in given.items():
        if value not in (None, False) and name in OWN and model not in OWN[name]:
            raise typer.BadParameter(
                f"{model} has no such setting: leave it out", param_hint=f"--{name.replace('_', '-')}"
            )


def options(model: Model, shape: Shape, images: "Images") -> dict[str, Any]:
    """The arguments that make the network for these images."""
    channels, size, _ = images.x.shape[1:]
    classes = len(images.classes)
    if model in ON_ROWS:
        pixels = math.prod(images.x.shape[1:])
        return {"in_features": pixels, "out_features": classes, **_on_rows(model, shape, pixels)}
    if model == "han-mixer":
        width = shape.width or 512
        if width % 8:
            raise typer.BadParameter(f"must be a multiple of 8, got {width}", param_hint="--width")
        return {
            "image_size": size,
            "num_classes": classes,
            "channels": [width // 8, width // 4, width // 2, width, width],
            "mlp_blocks": shape.mlp_blocks or 0,
            "han_blocks": 16 if shape.depth is None else shape.depth,
            "strides": _strides(size),
            "in_channels": channels,
        }
    if channels != 3:
        raise typer.BadParameter(f"takes images of three colours, these have {channels}", param_hint="--model")
    if size > PICTURE_SIZE[model] and size % 64:
        raise typer.BadParameter(
            f"{model} takes pictures of at most 256 pixels, or of a multiple of 64, got {size}", param_hint="--size"
        )
    return {"num_classes": classes, "size": model.removeprefix("mobilevit-"), "block": "han"}


def _on_rows(model: Model, shape: Shape, pixels: int) -> dict[str, Any]:
    if model == "fcnet":
        return {"width": shape.width or 784, "depth": 1 if shape.depth is None else shape.depth}
    width, depth, reflections = (max(1024, pixels), 4, 32) if shape.lipschitz else (784, 20, 1)
    return {
        "width": shape.width or width,
        "depth": depth if shape.depth is None else shape.depth,
        "reflections": shape.reflections or reflections,
        "lipschitz": shape.lipschitz,
    }


def _strides(size: int) -> list[int]:
    """Of the stem: as in the paper for images of 32 and of 96 pixels, so that there are not many more than 14 x 14 tokens."""
    if size <= 40:
        return [1, 2, 1, 2]
    return [1, 2, 2, 2] if size <= 112 else [2, 2, 2, 2]


def build(model: Model, arguments: Mapping[str, Any], seed: int) -> "nn.Module":
    """The network, its start fixed by the seed."""
    from ..models.registry import build_model

    kinds = {"hannet": "HanNet", "fcnet": "FCNet", "han-mixer": "HanMixer"}
    try:
        return build_model(kinds.get(model, "MobileViT"), seed, **arguments)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except RuntimeError as error:  # the allocator's
        raise typer.BadParameter("a network of this size does not fit into memory") from error


def augmentation(name: str, images: "Images") -> "Augmentation":
    """none; crop: an eighth of the image may be lost; flip: and mirrored; auto: and the auto-augment policy and Cutout."""
    from .augmentation import Augmentation

    size = images.x.shape[2]
    moves = {
        "none": {},
        "crop": {"padding": size // 8},
        "flip": {"padding": size // 8, "flip": True},
        "auto": {"padding": size // 8, "flip": True, "policy": "cifar10", "cutout": size // 2},
    }
    return Augmentation(**moves[name])  # type: ignore[arg-type]


def recipe(model: Model, images: "Images", settings: Mapping[str, Any]) -> "ImageRecipe":
    """How to train on images. precision: None for bf16 on a GPU, fp32 elsewhere."""
    import torch

    from .recipe import ImageRecipe

    channels, size, _ = images.x.shape[1:]
    precision = settings["precision"] or ("bf16" if torch.cuda.is_available() else "fp32")
    own: dict[str, Any] = {} if channels == 3 else {"mean": (0.5,), "std": (0.25,)}
    if model.startswith("mobilevit") and size < PICTURE_SIZE[model]:
        own["resize"] = PICTURE_SIZE[model]
    return ImageRecipe(**{**settings, "precision": precision, **own})
