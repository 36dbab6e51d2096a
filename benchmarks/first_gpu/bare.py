"""hannet on a machine that has PyTorch, Triton, Numba and NumPy alone, and no way to install anything.

The package's modules import safetensors and huggingface_hub, to save and load what nobody saves or loads here.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

SOURCES = Path(__file__).parents[2] / "src"
_STOOD_IN_FOR = ("safetensors", "safetensors.torch", "huggingface_hub", "huggingface_hub.errors")


class _Anything:
    """Takes the place of a class to inherit from; cannot do what it does."""

    def __init_subclass__(cls, **_options: object) -> None:
        pass


class _StandIn(ModuleType):
    """A module that is missing: its names can be imported, and what they are for raises."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("Error"):
            return type(name, (Exception,), {})
        if name[0].isupper():
            return type(name, (_Anything,), {})

        def missing(*_values: object, **_options: object) -> None:
            raise ModuleNotFoundError(f"{self.__name__}.{name} is not on this machine", name=self.__name__)

        return missing


def is_there(name: str) -> bool:
    """Whether a package is on this machine, not only stood in for."""
    return not isinstance(sys.modules.get(name), _StandIn) and find_spec(name) is not None


def prepare() -> list[str]:
    """Makes hannet importable from this checkout. Returns the packages that are missing and stood in for."""
    sys.path.insert(0, str(SOURCES))
    missing = [name for name in _STOOD_IN_FOR if "." not in name and find_spec(name) is None]
    for name in _STOOD_IN_FOR:
        if name.partition(".")[0] in missing:
            sys.modules[name] = _StandIn(name)
    return missing
