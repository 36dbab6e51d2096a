"""Networks of one shape side by side: every parameter gets a leading dimension of members.

The modules that our own networks consist of are run and differentiated here, in memory that every step uses again: with
small networks autograd and fresh memory take as long as the arithmetic. Any other module goes through vmap and autograd.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from . import ops
from .layers import Abs, HanStack
from .models.hannet import FCNet, HanNet

Named = dict[str, Tensor]


class Members:
    """Several networks as one.  parameters: by name, each (members, ...), of the members that are still in `alive`."""

    def __init__(self, networks: Sequence[nn.Module], dtype: torch.dtype | None = None):
        """dtype: what to compute in, if not in that of the networks' parameters."""
        self.networks = list(networks)
        self.alive = torch.arange(len(networks))
        self._kept: Named = {}
        self._has_kept = torch.zeros(len(networks), dtype=torch.bool)
        state, self._buffers = stack_module_state(self.networks)
        self._skeleton = deepcopy(networks[0]).to("meta")
        self._set({name: p.detach().to(dtype or p.dtype) for name, p in state.items()})

    def _set(self, parameters: Named) -> None:
        self.parameters = parameters
        self._steps = _steps(self._skeleton, "", parameters)
        if self._steps and isinstance(self._steps[0], _Linear):
            self._steps[0].first = True

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """What every network makes of x, NaN for the retired.  x: (n, in) or (networks, n, in) -> (networks, n, out)."""
        if x.dim() == 2:
            x = x.expand(len(self.alive), *x.shape)
        elif not self.complete:
            x = x[self.alive]
        steps = _steps(self._skeleton, "", self.parameters)
        return self.spread(self._mapped(self.parameters, x) if steps is None else _forward(steps, x))

    def spread(self, values: Tensor) -> Tensor:
        """One value a network, from one a living member: NaN for the retired."""
        return values.new_full((len(self.networks), *values.shape[1:]), torch.nan).index_copy_(0, self.alive, values)

    @torch.no_grad()
    def retire(self, kept: Tensor) -> None:
        """Goes on with these of the living members; the others' networks keep their parameters as they stand."""
        self.write_back()
        self.alive = self.alive[kept]
        self._buffers = {name: buffer[kept] for name, buffer in self._buffers.items()}
        self._set({name: p[kept] for name, p in self.parameters.items()})

    @property
    def complete(self) -> bool:
        """Whether no member is retired."""
        return len(self.alive) == len(self.networks)

    @torch.no_grad()
    def keep(self, better: Tensor) -> None:
        """Remembers the parameters of these members (a mask over the networks) for `write_back`."""
        mine = better[self.alive].nonzero().flatten()
        for name, p in self.parameters.items():
            if name not in self._kept:
                self._kept[name] = p.new_full((len(self.networks), *p.shape[1:]), torch.nan)
            self._kept[name][self.alive[mine]] = p[mine]
        self._has_kept = self._has_kept | better

    def gradients(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> tuple[Tensor, Named]:
        """Outputs of all members for x (members, batch, in), and the gradients of a loss whose slope there is `slope`."""
        if self._steps is None:
            return self._by_autograd(x, slope)
        with torch.no_grad():
            outputs = _forward(self._steps, x)
            gradients: Named = {}
            gradient = slope(outputs)
            for step in reversed(self._steps):
                gradient = step.backward(gradient, gradients)
            return outputs, gradients

    def _mapped(self, parameters: Named, x: Tensor) -> Tensor:
        def single(parameters: Named, buffers: Named, x: Tensor) -> Tensor:
            return functional_call(self._skeleton, (parameters, buffers), (x,))

        return vmap(single)(parameters, self._buffers, x)

    def _by_autograd(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> tuple[Tensor, Named]:
        leaves = {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
        outputs = self._mapped(leaves, x)
        gradients = torch.autograd.grad(outputs, list(leaves.values()), slope(outputs.detach()))
        return outputs.detach(), dict(zip(leaves, gradients, strict=True))

    @torch.no_grad()
    def write_back(self) -> None:
        """Gives every living member's network its parameters: those kept last, else the present ones."""
        for index, network in enumerate(self.alive.tolist()):
            source, place = (self._kept, network) if self._has_kept[network] else (self.parameters, index)
            for name, parameter in self.networks[network].named_parameters():
                parameter.copy_(source[name][place])


class _Step(Protocol):
    """One module for all members. It keeps what its backward pass needs, and may overwrite what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""

    def backward(self, gradient: Tensor, gradients: Named, /) -> Tensor:
        """The gradient of its input from that of its output; those of its parameters go into `gradients`."""


def _forward(steps: Sequence[_Step], x: Tensor) -> Tensor:
    for step in steps:
        x = step.forward(x)
    return x


_KNOWN = (HanNet, FCNet, nn.Sequential, nn.Linear, HanStack, Abs, nn.ReLU)


def _hooked(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)


def _steps(module: nn.Module, name: str, parameters: Named) -> list[_Step] | None:
    """The module as steps, first to last; None if there is one among them that only autograd knows.

    That is also a subclass (a parametrisation makes one), a module with hooks, and one that appears twice.
    """
    if type(module) not in _KNOWN or _hooked(module):
        return None
    match module:
        case HanNet() | FCNet():
            return _steps(module.layers, f"{name}layers.", parameters)
        case nn.Sequential():
            parts = [
                _steps(child, f"{name}{key}.", parameters)
                for key, child in module._modules.items()
                if child is not None
            ]
            return None if None in parts else [step for part in parts for step in part or ()]
        case nn.Linear() if {f"{name}weight", f"{name}bias"} <= parameters.keys():
            return [_Linear(name, parameters)]
        case HanStack() if {f"{name}u", f"{name}b"} <= parameters.keys():
            u = parameters[f"{name}u"]
            if u.device.type != "cpu" or u.dtype not in (torch.float32, torch.float64):
                return None
            return [_Stack(name, parameters, module.reflections)]
        case Abs():
            return [_Abs()]
        case nn.ReLU():
            return [_ReLU()]
    return None


def _like(buffer: Tensor | None, *shape: int, of: Tensor) -> Tensor:
    return buffer if buffer is not None and buffer.shape == shape else of.new_empty(shape)


class _Linear:
    def __init__(self, name: str, parameters: Named):
        self.name = name
        self.weight, self.bias = parameters[f"{name}weight"], parameters[f"{name}bias"]
        self.first = False  # then nobody asks for the gradient of its input
        self.y: Tensor | None = None
        self.grad_x: Tensor | None = None
        self.grad_weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        self.y = _like(self.y, *x.shape[:2], self.weight.shape[1], of=x)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT, out=self.y)

    def backward(self, gradient: Tensor, gradients: Named) -> Tensor:
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


class _Stack:
    def __init__(self, name: str, parameters: Named, reflections: int):
        self.name, self.reflections = name, reflections
        self.u, self.b = parameters[f"{name}u"], parameters[f"{name}b"]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.u.shape[-1] or x.dtype != self.u.dtype:  # the kernel itself asks nothing
            raise ValueError(
                f"x must be (..., {self.u.shape[-1]}) in {self.u.dtype}, got {tuple(x.shape)} in {x.dtype}"
            )
        self.y, self.signs = ops.forward(x, self.u, self.b, self.reflections, True, True)
        return self.y

    def backward(self, gradient: Tensor, gradients: Named) -> Tensor:
        grad_x, grad_u, grad_b = ops.backward(gradient, self.y, self.signs, self.u, self.b, self.reflections, True)
        assert grad_b is not None
        gradients[f"{self.name}u"], gradients[f"{self.name}b"] = grad_u, grad_b
        return grad_x


class _Abs:
    def __init__(self) -> None:
        self.minus: Tensor | None = None
        self.y: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.minus, self.y = _like(self.minus, *x.shape, of=x), _like(self.y, *x.shape, of=x)
        return torch._C._nn.leaky_relu(torch.neg(x, out=self.minus), -1.0, out=self.y)  # as reference.absolute

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
