"""Lightweight, gradient-stable neural layers: y = |H(u) x + b|."""

import sys
from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, which takes most of the time until the command line can be interrupted
if TYPE_CHECKING:
    from . import export as export
    from . import functional
    from . import layers as layers
    from . import models as models
    from . import ops as ops
    from . import surgery as surgery
    from .estimators import HanClassifier as HanClassifier
    from .estimators import HanRegressor as HanRegressor
    from .layers import Abs, GroupSort, HanLayer, HanLinear, HanStack, Householder, MaxMin, Standardise, UnitLinear
    from .models import FCNet, HanBlock, HanMixer, HanNet, MobileViT

__version__ = "0.1.0"
__all__ = [
    "Abs", "FCNet", "GroupSort", "HanBlock", "HanLayer", "HanLinear", "HanMixer", "HanNet", "HanStack", "Householder", "MaxMin",
    "MobileViT", "Standardise", "UnitLinear", "functional",
]  # fmt: skip
_MODULES = ("export", "functional", "layers", "models", "ops", "surgery")
_CLASSES = {
    "layers": (
        "Abs",
        "GroupSort",
        "HanLayer",
        "HanLinear",
        "HanStack",
        "Householder",
        "MaxMin",
        "Standardise",
        "UnitLinear",
    ),
    "models": ("FCNet", "HanBlock", "HanMixer", "HanNet", "MobileViT"),
    "estimators": ("HanClassifier", "HanRegressor"),
}
_HOMES = {name: package for package, names in _CLASSES.items() for name in names}


def __getattr__(name: str) -> object:
    """A public name, imported at its first use: PyTorch takes seconds, `hannet --help` does without, scikit-learn is optional.

    Raises ImportError for the estimators where scikit-learn is missing.
    """
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError(f"hannet.{name} needs scikit-learn: pip install 'hannet[sklearn]'") from missing
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOMES})


if "torch" in sys.modules:  # then this costs little, and torch.ops.hannet is there
    import_module(".ops", __name__)
