"""Layers and activations as PyTorch modules."""

from .activations import Abs, GroupSort, MaxMin
from .affine import Standardise, UnitLinear
from .han import HanLayer, HanStack, Householder
from .linear import HanLinear

__all__ = [
    "Abs",
    "GroupSort",
    "HanLayer",
    "HanLinear",
    "HanStack",
    "Householder",
    "MaxMin",
    "Standardise",
    "UnitLinear",
]
