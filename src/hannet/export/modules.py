"""Networks as lists of layers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.activations import Abs, GroupSort, MaxMin
from ..layers.affine import UnitLinear
from ..layers.han import HanLayer, HanStack, Householder
from ..layers.linear import HanLinear
from ..models.han_block import HanBlock
from ..models.hannet import FCNet, HanNet
from ..ops import reference
from ..ops.torch_internals import has_hooks
from . import program
from .program import ExportError, Floats, Layer, Linear, Output, Pad, Program, Reflection, Scale, TensorInput


def describe_module(module: nn.Module) -> Program:
    """The program of a network on rows of float32 features. Raises ExportError for a module that cannot be exported."""
    layers = layers_of(module)
    width = next((entry_width(layer) for layer in layers if entry_width(layer)), None)
    if width is None:
        raise ExportError(f"{type(module).__name__} has no layer that tells how many features a row has")
    for layer in layers:  # padding in front of the first layer that tells
        if entry_width(layer):
            break
        width -= layer.zeros if isinstance(layer, Pad) else 0
    *_, (_, size) = program.widths(layers, width)
    output = Output(size, False, None, None, "output", ())
    return Program(type(module).__name__, TensorInput((width,)), (layers,), output)


def entry_width(layer: Layer) -> int | None:
    """How many features a layer takes, if it takes no other number."""
    if isinstance(layer, Linear):
        return layer.weight.shape[1]
    return len(layer.v) if isinstance(layer, Reflection) else None


def layers_of(module: nn.Module) -> tuple[Layer, ...]:
    """The layers of a network. Raises ExportError that names the module that cannot be exported, or weights that are not finite."""
    kind = type(module)
    require_plain(module)
    if kind in _TRANSPARENT:
        return tuple(layer for child in module.children() for layer in layers_of(child))
    if kind not in _BUILDERS:
        known = ", ".join(sorted(one.__name__ for one in (*_BUILDERS, *_TRANSPARENT)))
        raise ExportError(f"{kind.__name__} cannot be exported; those that can are {known}")
    return tuple(_BUILDERS[kind](module))


def require_plain(module: nn.Module) -> None:
    """Raises ExportError for weights that are not finite, for hooks, and for a replaced forward."""
    kind = type(module)
    if any(not bool(p.isfinite().all()) for p in module.parameters()):
        raise ExportError(f"{kind.__name__} has weights that are not finite")
    if has_hooks(module, backward=False):
        raise ExportError(
            f"{kind.__name__} has hooks or a replaced forward, which cannot be exported: remove them first"
        )


def _linear(module: nn.Linear) -> list[Layer]:
    weight = module.weight.detach()
    if isinstance(module, UnitLinear):
        weight = reference.unit(weight.double())
    bias = np.zeros(len(weight), np.float32) if module.bias is None else single(module.bias)
    return [Linear(single(weight), bias)]


def _reflections(module: HanLayer | HanStack | Householder) -> list[Layer]:
    if module.dim != -1:
        raise ExportError(f"{module} cannot be exported: only dim=-1 can")
    v = _unit_rows(module.u)
    count = module.reflections
    b = None if module.b is None else single(module.b.reshape(-1, module.features))
    found: list[Layer] = []
    for index, row in enumerate(v):
        last = index % count == count - 1
        bias = b[index // count] if b is not None and last else None
        found.append(Reflection(row, bias, last and not isinstance(module, Householder)))
    return found


def _unit_rows(u: Tensor) -> Floats:
    return single(reference.unit(u.detach().double()).reshape(-1, u.shape[-1]))


def _han_linear(module: HanLinear) -> list[Layer]:
    before, after = ([Reflection(row, None, False) for row in _unit_rows(u)] for u in (module.u, module.v))
    if module.b is not None:
        after[-1] = Reflection(after[-1].v, single(module.b), False)
    return [*before, Scale(single(module.s), module.out_features), *after]


def _han_block(module: HanBlock) -> list[Layer]:
    if module.norm is not None or module.skip:
        raise ExportError("a HanBlock with norm or skip cannot be exported: only a chain of layers can")
    zeros = module.hidden - module.features
    layers: list[Layer] = [Pad(zeros)] * bool(zeros)
    layers += [*layers_of(module.fold), *layers_of(module.reflect)]
    if zeros or module.scale is not None:
        ones = np.ones(module.features, np.float32)
        layers.append(Scale(ones if module.scale is None else single(module.scale), module.features))
    return layers


def _pad(module: nn.ZeroPad1d) -> list[Layer]:
    before, after = module.padding
    if before or after < 0:
        raise ExportError(f"{module} cannot be exported: only zeros behind the features can")
    return [Pad(int(after))]


def single(x: Tensor) -> Floats:
    """The values in float32. Raises ExportError for one beyond its range."""
    values: Floats = x.detach().to("cpu", torch.float32).contiguous().numpy()
    if not np.isfinite(values).all():
        raise ExportError("the network has weights beyond the range of float32")
    return values


_TRANSPARENT = (nn.Sequential, HanNet, FCNet)
_BUILDERS: dict[type[nn.Module], Callable] = {
    nn.Linear: _linear,
    UnitLinear: _linear,
    HanBlock: _han_block,
    HanLayer: _reflections,
    HanLinear: _han_linear,
    HanStack: _reflections,
    Householder: _reflections,
    nn.ZeroPad1d: _pad,
    Abs: lambda _: [program.Abs()],
    nn.ReLU: lambda _: [program.Relu()],
    MaxMin: lambda _: [program.GroupSort(2, descending=True)],
    GroupSort: lambda module: [program.GroupSort(module.group, descending=False)],
    nn.Identity: lambda _: [],
    nn.Dropout: lambda _: [],
}
