"""Which layers of a model are meant, and why some of them cannot be replaced."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..layers.linear import HanLinear
from ..ops.torch_internals import has_hooks
from .costs import is_conv1d

Where = str | type | Callable[[str, nn.Module], bool] | Sequence[Any] | None
_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "DataParallel", "OptimizedModule", "ScriptModule")


class SurgeryError(RuntimeError):
    """A model that cannot be changed as asked; the message is one sentence that names the layer."""


def matches(where: Where, name: str, module: nn.Module) -> bool:
    """Whether a module is meant: by name or pattern (as files are: `*.fc?`), by type, by predicate, or by any of several of these."""
    if where is None:
        return True
    if isinstance(where, str):
        return fnmatchcase(name, where)
    if isinstance(where, type):
        return isinstance(module, where)
    if isinstance(where, Sequence):
        return any(matches(one, name, module) for one in where)
    if callable(where):
        return bool(where(name, module))
    raise TypeError(f"where must be a name, a pattern, a type, a predicate or a list of these, got {where!r}")


def require_model(model: nn.Module) -> None:
    """Raises SurgeryError for a model inside a wrapper that has counted its parameters, or compiled it, already."""
    for name, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if wrapper := next((kind for kind in _WRAPPERS if kind in kinds), None):
            what = f"{name} is" if name else "the model is"
            raise SurgeryError(f"{what} a {wrapper}: change the model first, then wrap it")


class Inspector:
    """Says why a layer cannot be replaced, from all places of a model that hold it or its parameters."""

    def __init__(self, model: nn.Module):
        require_model(model)
        self.model = model
        self.names: set[str] = set()
        self.places: dict[int, list[str]] = defaultdict(list)
        self.holders: dict[int, list[str]] = defaultdict(list)
        for name, module in model.named_modules(remove_duplicate=False):
            self.places[id(module)].append(name)
            self.names.add(name)
        for name, module in model.named_modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    self.holders[id(parameter)].append(f"{name}.{key}".lstrip("."))

    def fault_of(self, name: str) -> str:
        """Why the linear layer of that name cannot be replaced; "" if it can."""
        layer = self.model.get_submodule(name)
        return self._fault_of_place(name, layer) or self._fault_of_sharing(layer) or fault_of_layer(layer)

    def _fault_of_place(self, name: str, layer: nn.Module) -> str:
        for parent_name in parents_of(name):
            parent = self.model.get_submodule(parent_name)
            if isinstance(parent, nn.MultiheadAttention):
                return f"{parent_name or 'the model'} (MultiheadAttention) reads its weight instead of calling it"
            if type(parent).__module__.startswith("peft.tuners."):
                return f"it is part of an adapter of PEFT ({type(parent).__name__}): merge that first"
        if len(places := self.places[id(layer)]) > 1:
            return f"the same layer is at {' and '.join(places)}"
        return ""

    def _fault_of_sharing(self, layer: nn.Module) -> str:
        for key, parameter in layer._parameters.items():
            if parameter is not None and len(names := self.holders[id(parameter)]) > 1:
                return f"its {key} is shared: {' and '.join(names)}"
        return ""


def fault_of_layer(layer: nn.Module) -> str:
    """Why a linear layer on its own cannot be replaced; "" if it can."""
    kind = type(layer).__name__
    if is_parametrized(layer):
        return f"it has parametrizations ({', '.join(layer.parametrizations)}): remove them first"  # type: ignore[arg-type]
    if has_hooks(layer):
        return "it has hooks or a replaced forward, which would be lost"
    if type(layer) is not nn.Linear and not is_conv1d(layer):
        return f"it is a {kind}, whose forward may do more than a Linear's"
    return _fault_of_weight(layer.weight)  # type: ignore[arg-type]


def _fault_of_weight(weight: Tensor) -> str:
    if type(weight) not in (nn.Parameter, Tensor) or type(weight.data) is not Tensor:
        return f"its weight is a {type(weight.data).__name__}, quantised or sharded"
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}, not floating point"
    if weight.dim() != 2 or not weight.numel():
        return f"its weight has the shape {tuple(weight.shape)}: gather its shards first"
    if weight.is_meta:
        return "its weight is on the meta device: load it first"
    return "" if bool(torch.isfinite(weight).all()) else "its weight is not finite"


def looks_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer of any kind, also one that cannot be replaced."""
    if isinstance(module, HanLinear):
        return False
    named = "Linear" in type(module).__name__ and hasattr(
        module, "in_features"
    )  # quantised ones have no class in common
    return isinstance(module, nn.Linear) or is_conv1d(module) or named


def linear_names(model: nn.Module, where: Where) -> Iterator[str]:
    """The names of the linear layers that are meant, first to last."""
    for name, module in model.named_modules():
        if looks_linear(module) and matches(where, name, module):
            yield name


def parents_of(name: str) -> Iterator[str]:
    """The names of the modules around one, from the nearest on."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def as_linear(layer: nn.Module) -> nn.Linear:
    """The layer itself, or an nn.Linear that computes what a Conv1D does, with copies of its parameters."""
    if isinstance(layer, nn.Linear):
        return layer
    weight: Any = layer.weight
    linear = nn.utils.skip_init(nn.Linear, *weight.shape, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        linear.weight.copy_(weight.mT)
        linear.bias.copy_(layer.bias)
    return linear.train(layer.training)
