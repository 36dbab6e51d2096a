"""Networks made of the layers."""

from .hannet import FCNet, HanNet
from .load import ModelFolderError, load
from .mixer import HanMixer
from .mobilevit import MobileViT

__all__ = ["FCNet", "HanMixer", "HanNet", "MobileViT", "ModelFolderError", "load"]
