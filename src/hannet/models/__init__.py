"""Networks made of the layers."""

from .hannet import FCNet, HanNet

__all__ = ["FCNet", "HanNet"]
