"""Training: one network, or many of one shape side by side."""

from .recipe import Recipe
from .trainer import Epoch, Progress, predict, train

__all__ = ["Epoch", "Progress", "Recipe", "predict", "train"]
