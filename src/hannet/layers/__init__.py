"""Layers and activations as PyTorch modules."""

from .han import Abs, GroupSort, HanLayer, HanStack, Householder, MaxMin, Standardise, UnitLinear

__all__ = ["Abs", "GroupSort", "HanLayer", "HanStack", "Householder", "MaxMin", "Standardise", "UnitLinear"]
