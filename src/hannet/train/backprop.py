"""Modules for members: forward and backward for all of them at once, in memory that every step uses again.

With small networks autograd and fresh memory take as long as the arithmetic.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.activations import Abs, GroupSort, MaxMin
from ..layers.affine import UnitLinear
from ..layers.han import HanLayer, HanStack, Householder
from ..models.hannet import FCNet, HanNet
from ..ops import dispatch, reference
from ..ops.torch_internals import has_hooks, leaky_relu

Named = dict[str, Tensor]


class LayerGradient(Protocol):
    """One module for all members. It keeps what its backward pass needs, and may overwrite what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""

    def backward(self, gradient: Tensor, gradients: Named, /) -> Tensor:
        """The gradient of its input from that of its output; those of its parameters go into `gradients`."""


LARGEST_GROUP = 32  # the network that sorts does group² / 2 exchanges; torch.sort serves the larger ones
_REFLECTING = (HanStack, HanLayer, Householder)
_LINEAR = (nn.Linear, UnitLinear)
_KNOWN = (HanNet, FCNet, nn.Sequential, *_LINEAR, *_REFLECTING, nn.ZeroPad1d, Abs, nn.ReLU, MaxMin, GroupSort)


def is_supported(network: nn.Module) -> bool:
    """Whether it consists of these modules alone, and nobody listens to them: then no part of it asks a tensor for a value."""
    return all(type(module) in _KNOWN and not has_hooks(module) for module in network.modules())


def build_backprop(module: nn.Module, name: str, parameters: Named) -> list[LayerGradient] | None:
    """The module as steps, first to last; None if there is one among them that only autograd knows.

    That is also a subclass (a parametrisation makes one), a module with hooks, and one that appears twice.
    """
    if type(module) not in _KNOWN or has_hooks(module):
        return None
    if isinstance(module, HanNet | FCNet):
        return build_backprop(module.layers, f"{name}layers.", parameters)
    if isinstance(module, nn.Sequential):
        children = ((key, child) for key, child in module._modules.items() if child is not None)
        parts = [build_backprop(child, f"{name}{key}.", parameters) for key, child in children]
        return None if None in parts else [step for part in parts for step in part or ()]
    return _step_of(module, name, parameters)


def _step_of(module: nn.Module, name: str, parameters: Named) -> list[LayerGradient] | None:
    match module:
        case nn.Linear() if {f"{name}weight", f"{name}bias"} <= parameters.keys():
            return [(_UnitLinear if isinstance(module, UnitLinear) else Linear)(name, parameters)]
        case nn.ZeroPad1d() if min(module.padding) >= 0:
            return [_Pad(*module.padding)]
        case HanStack(dim=-1) | HanLayer(dim=-1) | Householder(dim=-1) if {f"{name}u", f"{name}b"} <= parameters.keys():
            apply_abs, reflections = not isinstance(module, Householder), getattr(module, "reflections", 1)
            return [_Stack(name, parameters, reflections, apply_abs)] if _compiled(parameters[f"{name}u"]) else None
        case Abs():
            return [_Abs()]
        case nn.ReLU():
            return [_ReLU()]
        case MaxMin() if all(map(_compiled, parameters.values())):
            return [_Sort(2, descending=True)]
        case GroupSort() if module.group <= LARGEST_GROUP and all(map(_compiled, parameters.values())):
            return [_Sort(module.group, descending=False)]
    return None


def _compiled(of: Tensor) -> bool:
    return dispatch.NUMBA and of.device.type == "cpu" and of.dtype in (torch.float32, torch.float64)


def _like(buffer: Tensor | None, *shape: int, of: Tensor) -> Tensor:
    return buffer if buffer is not None and buffer.shape == shape else of.new_empty(shape)


class Linear:
    """x W^T + b. first: nobody asks for the gradient of its input."""

    def __init__(self, name: str, parameters: Named):
        self.name = name
        self.weight, self.bias = parameters[f"{name}weight"], parameters[f"{name}bias"]
        self.first = False
        self.y: Tensor | None = None
        self.grad_x: Tensor | None = None
        self.grad_weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        self.x = x
        self.y = _like(self.y, *x.shape[:2], self.weight.shape[1], of=x)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT, out=self.y)

    def backward(self, gradient: Tensor, gradients: Named) -> Tensor:
        """The gradient of its input."""
        members, out, into = self.weight.shape
        if into < out:  # a matrix product with few columns is several times slower than one with few rows
            self.grad_weight = _like(self.grad_weight, members, into, out, of=gradient)
            gradients[f"{self.name}weight"] = torch.bmm(self.x.mT, gradient, out=self.grad_weight).mT
        else:
            self.grad_weight = _like(self.grad_weight, members, out, into, of=gradient)
            gradients[f"{self.name}weight"] = torch.bmm(gradient.mT, self.x, out=self.grad_weight)
        gradients[f"{self.name}bias"] = gradient.sum(1)
        if self.first:
            return gradient
        self.grad_x = _like(self.grad_x, *self.x.shape, of=gradient)
        return torch.bmm(gradient, self.weight, out=self.grad_x)


class _UnitLinear(Linear):
    """x V^T + b, the rows of V those of the weight divided by their norms."""

    def __init__(self, name: str, parameters: Named):
        super().__init__(name, parameters)
        self.rows = self.weight

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        self.weight = reference.unit(self.rows)
        return super().forward(x)

    def backward(self, gradient: Tensor, gradients: Named) -> Tensor:
        """The gradient of its input."""
        grad_x = super().backward(gradient, gradients)
        along = gradients[f"{self.name}weight"]
        across = along - (along * self.weight).sum(-1, keepdim=True) * self.weight
        norms = (self.rows * self.weight).sum(-1, keepdim=True)  # no squares, which could overflow
        gradients[f"{self.name}weight"] = across / torch.where(norms == 0, 1, norms)
        return grad_x


class _Pad:
    def __init__(self, before: int, after: int):
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.before, self.after))

    def backward(self, gradient: Tensor, _: Named) -> Tensor:
        return gradient[..., self.before : gradient.shape[-1] - self.after]


class _Stack:
    def __init__(self, name: str, parameters: Named, reflections: int, apply_abs: bool):
        self.name, self.reflections, self.apply_abs = name, reflections, apply_abs
        self.u, self.b = (_in_layers(parameters[f"{name}{letter}"]) for letter in "ub")
        self.shapes = [parameters[f"{name}{letter}"].shape for letter in "ub"]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.u.shape[-1] or x.dtype != self.u.dtype:  # the kernel itself asks nothing
            raise ValueError(
                f"x must be (..., {self.u.shape[-1]}) in {self.u.dtype}, got {tuple(x.shape)} in {x.dtype}"
            )
        self.y, self.signs = dispatch.forward(x, self.u, self.b, self.reflections, self.apply_abs, True)
        return self.y

    def backward(self, gradient: Tensor, gradients: Named) -> Tensor:
        grad_x, *grads = dispatch.backward(
            gradient, self.y, self.signs, self.u, self.b, self.reflections, self.apply_abs
        )
        for letter, grad, shape in zip("ub", grads, self.shapes, strict=True):
            assert grad is not None
            gradients[f"{self.name}{letter}"] = grad.view(shape)
        return grad_x


def _in_layers(parameter: Tensor) -> Tensor:
    """(members, d) of a single layer as (members, 1, d)."""
    return parameter if parameter.dim() == 3 else parameter[:, None]


class _Abs:
    def __init__(self) -> None:
        self.minus: Tensor | None = None
        self.y: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.minus, self.y = _like(self.minus, *x.shape, of=x), _like(self.y, *x.shape, of=x)
        return leaky_relu(torch.neg(x, out=self.minus), -1.0, out=self.y)  # as reference.absolute

    def backward(self, gradient: Tensor, _: Named) -> Tensor:
        assert self.minus is not None
        torch.ops.aten.leaky_relu_backward.grad_input(gradient, self.minus, -1.0, False, grad_input=gradient)
        return gradient.neg_()


class _ReLU:
    def __init__(self) -> None:
        self.y: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.y = _like(self.y, *x.shape, of=x)
        return torch.clamp_min(x, 0, out=self.y)

    def backward(self, gradient: Tensor, _: Named) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(gradient, self.y, 0, grad_input=gradient)


class _Sort:
    def __init__(self, group: int, *, descending: bool):
        self.group, self.descending = group, descending
        self.y: Tensor | None = None
        self.places: Tensor | None = None
        self.grad_x: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        from ..ops.cpu.group_sort import sort_groups

        if x.shape[-1] % self.group:
            raise ValueError(f"features must come in groups of {self.group}, got {tuple(x.shape)}")
        self.y = _like(self.y, *x.shape, of=x)
        if self.places is None or self.places.shape != x.shape:
            self.places = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
        sort_groups(_flat(x), self.group, self.descending, _flat(self.y), _flat(self.places))
        return self.y

    def backward(self, gradient: Tensor, _: Named) -> Tensor:
        from ..ops.cpu.group_sort import unsort_groups

        assert self.places is not None
        self.grad_x = _like(self.grad_x, *gradient.shape, of=gradient)
        unsort_groups(_flat(gradient), _flat(self.places), self.group, _flat(self.grad_x))
        return self.grad_x


def _flat(x: Tensor) -> Any:
    return x.contiguous().view(-1).numpy()
