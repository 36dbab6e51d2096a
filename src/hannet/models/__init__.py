"""Networks made of the layers."""

from .han_block import HanBlock
from .han_mixer import HanMixer
from .hannet import FCNet, HanNet
from .hub import ModelFolderError
from .mobilevit import MobileViT
from .registry import load

__all__ = ["FCNet", "HanBlock", "HanMixer", "HanNet", "MobileViT", "ModelFolderError", "load"]
