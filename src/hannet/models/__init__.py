"""Networks made of the layers."""

from .folder import ModelFolderError
from .hannet import FCNet, HanNet
from .load import load
from .mixer import HanMixer
from .mobilevit import MobileViT

__all__ = ["FCNet", "HanMixer", "HanNet", "MobileViT", "ModelFolderError", "load"]
