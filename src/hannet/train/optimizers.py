"""Gradient steps for members: parameters (members, ...), each member with a rate and a weight decay of its own.

Rates and decays are on the CPU, wherever the parameters are. The kernels are those inside torch.optim, called without it: it would
ask for a leaf and a group a member, and take no rate that a CUDA graph can read (ops/torch_internals.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..ops import torch_internals
from .recipe import Recipe

Named = Mapping[str, Tensor]


class Optimizer(Protocol):
    """What training asks of an optimizer."""

    def step(self, gradients: Named, rate: float | Tensor) -> None:
        """Move the parameters once, in place, at `rate` times every member's own rate.

        rate: a number, or a float32 tensor () beside the parameters, of which no value is asked: so a graph can hold the step.
        """

    def select(self, parameters: Named, members: Tensor) -> None:
        """Continue with these members, whose parameters now are `parameters`."""

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps from step to step, not copied: whoever fills it restores it."""


class SGD:
    """Stochastic gradient descent: v <- momentum v + g + decay p;  p <- p - rate v."""

    def __init__(self, parameters: Named, lr: Tensor, decay: Tensor, momentum: float):
        self.momentum, self.lr, self.decay = momentum, lr, decay
        self.velocities = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.select(parameters, torch.arange(len(lr), device="cpu"))

    def select(self, parameters: Named, members: Tensor) -> None:
        """Continue with these members, whose parameters now are `parameters`."""
        self.parameters = list(parameters.values())
        self.velocities = {name: v[members] for name, v in self.velocities.items()}
        self.lr, self.decay = self.lr[members], self.decay[members]
        device = self.parameters[0].device
        self.lr_on_device = self.lr.to(device)
        self.decays = _each(self.decay.to(device), self.parameters) if self.decay.any() else None
        self.rate: float | Tensor | None = None

    @torch.no_grad()
    def step(self, gradients: Named, rate: float | Tensor) -> None:
        """Move the parameters once, in place."""
        velocities = list(self.velocities.values())
        slopes = [gradients[name] for name in self.velocities]
        if isinstance(rate, Tensor) or rate != self.rate:
            self.rate, self.steps = rate, _each(-rate * self.lr_on_device, self.parameters)
        if self.decays:
            slopes = list(torch_internals.foreach_addcmul(slopes, self.parameters, self.decays))
        torch_internals.foreach_mul_(velocities, self.momentum)
        torch_internals.foreach_add_(velocities, slopes)
        torch_internals.foreach_addcmul_(self.parameters, velocities, self.steps)

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps from step to step, not copied: whoever fills it restores it."""
        return self.velocities


def _each(values: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return [values.view(-1, *[1] * (p.dim() - 1)) for p in parameters]


class Adam:
    """Adam (Kingma and Ba 2015), by PyTorch's fused kernel; decay added to the gradient, or decoupled (AdamW)."""

    def __init__(self, parameters: Named, lr: Tensor, decay: Tensor, decoupled: bool):
        self.kernel = torch_internals.fused_adamw_ if decoupled else torch_internals.fused_adam_
        self.lr, self.decay = lr, decay
        self.means, self.squares = ({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2))
        self.count = torch.zeros((), device=next(iter(parameters.values())).device)
        self.select(parameters, torch.arange(len(lr), device="cpu"))

    def select(self, parameters: Named, members: Tensor) -> None:
        """Continue with these members, whose parameters now are `parameters`."""
        self.parameters = parameters
        self.means, self.squares = (
            {name: state[members] for name, state in states.items()} for states in (self.means, self.squares)
        )
        self.lr, self.decay = self.lr[members], self.decay[members]
        alike = len(torch.stack([self.lr, self.decay]).unique(dim=1).T) == 1
        self.parts = [slice(None)] if alike else [slice(member, member + 1) for member in range(len(self.lr))]
        self.numbers = list(zip(self.lr.tolist(), self.decay.tolist(), strict=True))

    @torch.no_grad()
    def step(self, gradients: Named, rate: float | Tensor) -> None:
        """Move the parameters once, in place."""
        self.count += 1
        states = self.parameters, gradients, self.means, self.squares
        for part in self.parts:  # all members in one call, unless their rates differ
            lr, decay = self.numbers[part.start or 0]
            p, g, m, v = ([state[name][part] for name in self.parameters] for state in states)
            g = [gradient.contiguous() for gradient in g]  # the kernel reads memory in order, whatever the strides
            self.kernel(
                *(p, g, m, v, [], [self.count] * len(p)),
                lr=rate * lr,
                beta1=0.9,
                beta2=0.999,
                weight_decay=decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps from step to step, not copied: whoever fills it restores it."""
        parts = {"mean": self.means, "square": self.squares}
        return {"count": self.count} | {
            f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()
        }


class OptimizerGroup:
    """An optimizer of its own for each run of neighbouring members. sizes: how many members each has.

    make: an optimizer for one of the runs, from its number and its parameters.
    """

    def __init__(self, parameters: Named, sizes: Sequence[int], make: Callable[[int, Named], Optimizer]):
        self.parts = _runs(sizes)
        self.optimizers = [make(number, _of(parameters, part)) for number, part in enumerate(self.parts)]

    def select(self, parameters: Named, members: Tensor) -> None:
        """Continue with these members, whose parameters now are `parameters`."""
        selected = [members[(members >= part.start) & (members < part.stop)] - part.start for part in self.parts]
        self.parts = _runs([len(each) for each in selected])
        for optimizer, part, each in zip(self.optimizers, self.parts, selected, strict=True):
            if len(each):
                optimizer.select(_of(parameters, part), each)

    def step(self, gradients: Named, rate: float | Tensor) -> None:
        """Move the parameters once, in place."""
        for optimizer, part in zip(self.optimizers, self.parts, strict=True):
            if part.stop > part.start:
                optimizer.step(_of(gradients, part), rate)

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps from step to step, not copied: whoever fills it restores it."""
        pairs = zip(self.optimizers, self.parts, strict=True)
        states = {number: one.state_dict() for number, (one, part) in enumerate(pairs) if part.stop > part.start}
        return {f"{number}.{name}": tensor for number, state in states.items() for name, tensor in state.items()}


def _runs(sizes: Sequence[int]) -> list[slice]:
    ends = list(accumulate(sizes, initial=0))
    return [slice(start, end) for start, end in pairwise(ends)]


def _of(tensors: Named, part: slice) -> Named:
    return {name: tensor[part] for name, tensor in tensors.items()}


def build_optimizer(parameters: Named, recipes: Sequence[Recipe]) -> Optimizer:
    """The optimizer of members, each with a recipe of its own."""
    runs = [list(run) for _, run in groupby(recipes, key=lambda recipe: (recipe.optimizer, recipe.momentum))]
    if len(runs) > 1:
        sizes = [len(run) for run in runs]
        return OptimizerGroup(parameters, sizes, lambda number, part: build_optimizer(part, runs[number]))
    lr, decay = (
        torch.tensor([getattr(recipe, name) for recipe in recipes], device="cpu") for name in ("lr", "weight_decay")
    )
    if recipes[0].optimizer == "sgd":
        return SGD(parameters, lr, decay, recipes[0].momentum)
    return Adam(parameters, lr, decay, decoupled=recipes[0].optimizer == "adamw")


def build_torch_optimizer(
    parameters: Iterable[nn.Parameter], recipe: Recipe, *, fused: bool | None
) -> torch.optim.Optimizer:
    """PyTorch's own optimizer, for a single network."""
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused}
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)
        case "adam":
            return torch.optim.Adam(parameters, **options)
    return torch.optim.AdamW(parameters, **options)
