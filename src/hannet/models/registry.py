"""Networks from the folders that `save_pretrained` writes."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from .han_mixer import HanMixer
from .hannet import FCNet, HanNet
from .hub import CONFIG, WEIGHTS, ModelFolderError, read_config, restore
from .mobilevit import MobileViT

CLASSES: dict[str, Callable[..., nn.Module]] = {
    "HanNet": HanNet, "FCNet": FCNet, "HanMixer": HanMixer, "MobileViT": MobileViT
}  # fmt: skip


def load(folder: str | Path) -> nn.Module:
    """The network in a folder, in eval mode: what `config.json` names, with the weights of `model.safetensors`,
    in their dtype.

    Raises ModelFolderError if either is missing, damaged or does not fit the other.
    """
    config = read_config(folder)
    try:
        with torch.device("meta"):  # no memory, and no start that the weights replace at once
            model = CLASSES[config.pop("model")](**config)
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ModelFolderError(f"{Path(folder, CONFIG)}: tells of none of the networks {', '.join(CLASSES)}") from error
    return restore(model, Path(folder, WEIGHTS))
