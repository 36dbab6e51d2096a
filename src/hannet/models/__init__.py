"""Networks made of the layers."""

from .hannet import FCNet, HanNet
from .load import ModelFolderError, load

__all__ = ["FCNet", "HanNet", "ModelFolderError", "load"]
