"""Lightweight, gradient-stable neural layers: y = |H(u) x + b|."""

from typing import TYPE_CHECKING

from . import functional
from .layers.activations import Abs, GroupSort, MaxMin
from .layers.affine import Standardise, UnitLinear
from .layers.han import HanLayer, HanStack, Householder
from .models import FCNet, HanMixer, HanNet, MobileViT

if TYPE_CHECKING:
    from .estimators import HanClassifier as HanClassifier
    from .estimators import HanRegressor as HanRegressor

__version__ = "0.1.0"
__all__ = [
    "Abs", "FCNet", "GroupSort", "HanLayer", "HanMixer", "HanNet", "HanStack", "Householder", "MaxMin", "MobileViT",
    "Standardise", "UnitLinear", "functional",
]  # fmt: skip
_NEED_SKLEARN = ("HanClassifier", "HanRegressor")


def __getattr__(name: str) -> object:
    """The estimators, imported when first asked for: scikit-learn is optional. Raises ImportError without it."""
    if name not in _NEED_SKLEARN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import estimators
    except ModuleNotFoundError as missing:
        if missing.name != "sklearn":
            raise
        raise ImportError(f"hannet.{name} needs scikit-learn: pip install 'hannet[sklearn]'") from missing
    return getattr(estimators, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NEED_SKLEARN])
