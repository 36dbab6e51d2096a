"""Lightweight, gradient-stable neural layers: y = |H(u) x + b|."""

from . import functional
from .layers import Abs, GroupSort, HanLayer, HanStack, Householder, MaxMin
from .models import FCNet, HanNet

__version__ = "0.1.0"
__all__ = ["Abs", "FCNet", "GroupSort", "HanLayer", "HanNet", "HanStack", "Householder", "MaxMin", "functional"]
