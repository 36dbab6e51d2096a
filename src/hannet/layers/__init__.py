"""Layers and activations as PyTorch modules."""

from .activations import Abs, GroupSort, MaxMin
from .affine import Standardise, UnitLinear
from .han import HanLayer, HanStack, Householder

__all__ = ["Abs", "GroupSort", "HanLayer", "HanStack", "Householder", "MaxMin", "Standardise", "UnitLinear"]
