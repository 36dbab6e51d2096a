"""Training: one network, or many of one shape side by side."""

from .callbacks import Callback, ProgressReporter, TrainingState
from .recipe import Recipe
from .trainer import predict, train

__all__ = ["Callback", "ProgressReporter", "Recipe", "TrainingState", "predict", "train"]
