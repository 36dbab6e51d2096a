"""Networks of one shape side by side: every parameter gets a leading dimension of members.

Networks of the modules in backprop.py are run and differentiated without autograd; any other goes through vmap and autograd.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from .backprop import LayerGradient, Linear, Named, build_backprop


class Ensemble:
    """Several networks as one.  parameters: by name, each (members, ...), of the members that are still in `alive`."""

    def __init__(self, networks: Sequence[nn.Module], dtype: torch.dtype | None = None):
        """dtype: what to compute in, if not in that of the networks' parameters."""
        self.networks = list(networks)
        self._best: Named = {}
        self._has_best = torch.zeros(len(networks), dtype=torch.bool, device="cpu")
        state, self._buffers = stack_module_state(self.networks)
        self.living = list(range(len(networks)))  # as `alive`, which is where the parameters are
        tensors = [*state.values(), *self._buffers.values()]
        self.alive = torch.arange(len(networks), device=tensors[0].device if tensors else None)
        self._skeleton = deepcopy(networks[0]).to("meta")
        self._set({name: p.detach().to(dtype or p.dtype) for name, p in state.items()})

    def _set(self, parameters: Named) -> None:
        self.parameters = parameters
        self._steps = build_backprop(self._skeleton, "", parameters)
        self._to_input = build_backprop(self._skeleton, "", parameters)
        if self._steps and isinstance(self._steps[0], Linear):
            self._steps[0].first = True

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """What every network makes of x, NaN for those dropped.  x: (n, in) or (networks, n, in) -> (networks, n, out)."""
        if x.dim() == 2:
            x = x.expand(len(self.living), *x.shape)
        elif not self.complete:
            x = x[self.alive]
        return self.scatter_to_members(self.outputs(x))

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """What the living members make of x.  x: (members, n, in) -> (members, n, out)."""
        steps = build_backprop(self._skeleton, "", self.parameters)
        return self._mapped(self.parameters, x) if steps is None else _forward(steps, x)

    def scatter_to_members(self, values: Tensor) -> Tensor:
        """One value a network, from one a living member: NaN for those dropped."""
        return values.new_full((len(self.networks), *values.shape[1:]), torch.nan).index_copy_(0, self.alive, values)

    @torch.no_grad()
    def drop_diverged(self, kept: Tensor) -> None:
        """Continues with these of the living members; the others' networks keep their parameters as they stand."""
        self.write_back()
        self.living = [self.living[index] for index in kept.tolist()]
        self.alive = self.alive[kept]
        self._buffers = {name: buffer[kept] for name, buffer in self._buffers.items()}
        self._set({name: p[kept] for name, p in self.parameters.items()})

    @property
    def complete(self) -> bool:
        """Whether no member was dropped."""
        return len(self.living) == len(self.networks)

    @torch.no_grad()
    def snapshot_best(self, better: Tensor) -> None:
        """Remembers the parameters of these members (a mask over the networks) for `write_back`."""
        better = better.cpu()
        chosen = better[self.living].nonzero().flatten()
        self._require_best()
        for name, p in self.parameters.items():
            self._best[name][self.alive[chosen]] = p[chosen]
        self._has_best = self._has_best | better

    def _require_best(self) -> None:
        """Room for the remembered parameters of all networks."""
        for name, p in self.parameters.items():
            if name not in self._best:
                self._best[name] = p.new_full((len(self.networks), *p.shape[1:]), torch.nan)

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

    def input_gradient(self, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient by x of a loss whose slope at the outputs is `slope`.  x: (members, batch, in) -> the same."""
        if self._to_input is None:
            leaf = x.detach().requires_grad_()
            outputs = self._mapped(self.parameters, leaf)
            return torch.autograd.grad(outputs, leaf, slope(outputs.detach()))[0]
        with torch.no_grad():
            gradient = slope(_forward(self._to_input, x))
            for step in reversed(self._to_input):
                gradient = step.backward(gradient, {})
            return gradient

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
        """Gives every living member's network its parameters: those remembered last, else the present ones."""
        for index, network in enumerate(self.living):
            source, place = (self._best, network) if self._has_best[network] else (self.parameters, index)
            for name, parameter in self.networks[network].named_parameters():
                parameter.copy_(source[name][place])

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters of all networks, those remembered, and which members live."""
        own = [dict(network.named_parameters()) for network in self.networks]
        found = {"living": self.alive.cpu(), "has_best": self._has_best}
        for name, p in self.parameters.items():
            present = torch.stack([parameters[name].detach() for parameters in own])
            found[f"parameters.{name}"] = present.index_copy_(0, self.alive, p)
        return found | {f"best.{name}": p for name, p in self._best.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """What `state_dict` gave, into members that all live still."""
        for name, p in self.parameters.items():
            p.copy_(state[f"parameters.{name}"])
        if len(state["living"]) < len(self.living):
            self.drop_diverged(state["living"].to(self.alive.device))
        self._has_best = state["has_best"]
        if self._has_best.any():
            self._require_best()
        for name, p in self._best.items():
            p.copy_(state[f"best.{name}"])


def _forward(steps: Sequence[LayerGradient], x: Tensor) -> Tensor:
    for step in steps:
        x = step.forward(x)
    return x
