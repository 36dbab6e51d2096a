"""Networks from the folders that `save_pretrained` writes."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .hannet import FCNet, HanNet
from .mixer import HanMixer
from .mobilevit import MobileViT

CLASSES: dict[str, Callable[..., nn.Module]] = {
    "HanNet": HanNet, "FCNet": FCNet, "HanMixer": HanMixer, "MobileViT": MobileViT
}  # fmt: skip


class ModelFolderError(RuntimeError):
    """A folder that holds no network, or a damaged one; the message is one sentence for the user."""


def load(folder: str | Path) -> nn.Module:
    """The network in a folder, in eval mode: what `config.json` names, with the weights of `model.safetensors`,
    in their dtype.

    Raises ModelFolderError if either is missing, damaged or does not fit the other.
    """
    path, weights = Path(folder, "config.json"), Path(folder, "model.safetensors")
    try:
        config = json.loads(path.read_bytes())
        with torch.device("meta"):  # no memory, and no start that the weights replace at once
            model = CLASSES[config.pop("model")](**config)
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError, OverflowError) as error:
        raise ModelFolderError(f"{path}: tells of none of the networks {', '.join(CLASSES)}") from error
    try:
        model.load_state_dict(load_file(weights), assign=True)
    except OSError as error:
        raise ModelFolderError(f"{weights}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelFolderError(
            f"{weights}: damaged, or not of the network that {path.name} beside it tells of"
        ) from error
    return model.eval()
