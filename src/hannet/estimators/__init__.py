"""HanNets as scikit-learn estimators."""

from .base import HanClassifier, HanRegressor, load

__all__ = ["HanClassifier", "HanRegressor", "load"]
