"""One training loop, for one network or for many of one shape side by side (members)."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from .members import Members


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Learning rates follow `schedule`: "steps" (x factor at each milestone) or "cosine" (to 0).

    warmup: the share of all iterations over which the rate rises linearly from 0.
    lasso: strength of a group lasso on the rows of the first layer's weight, lasso * sum_i ||w_i||, which leaves few units
    that look at the input.
    """

    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "steps"
    milestones: tuple[float, ...] = (0.5, 0.7, 0.9)
    factor: float = 0.2
    warmup: float = 0.0
    lasso: float = 0.0
    batch: int = 100
    iterations: int = 40_000

    def __post_init__(self) -> None:
        if self.schedule not in ("steps", "cosine"):
            raise ValueError(f"schedule must be steps or cosine, got {self.schedule!r}")
        if not (self.lr > 0 and 0 <= self.momentum < 1 and 0 <= self.warmup < 1):
            raise ValueError(f"lr must be above 0, momentum and warmup at least 0 and below 1, got {self}")
        if self.batch < 1 or self.iterations < 1:
            raise ValueError(f"batch and iterations must be at least 1, got {self.batch} and {self.iterations}")

    def differences(self) -> dict[str, Any]:
        """What differs from the default recipe, so that a record keeps its name when a recipe learns something new."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def rate(self, step: int) -> float:
        """The learning rate at `step`, as a multiple of lr."""
        done = step / self.iterations
        if done < self.warmup:
            return (step + 1) / (self.warmup * self.iterations)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))
        return self.factor ** sum(done >= milestone for milestone in self.milestones)


_LOOK_EVERY = 100  # steps between two looks for members that diverged


@dataclass
class Progress:
    """Where a training stands. predict: x (n, in) -> (members, n, out), without gradients."""

    step: int
    steps: int
    seconds: float
    loss: Tensor
    predict: Callable[[Tensor], Tensor]


class _Batches:
    """Shuffled batches without end.  Members of one seed see the same; a last batch that is not full is left out."""

    def __init__(self, x: Tensor, y: Tensor, seeds: Sequence[int], batch: int):
        self.x, self.y, self.seeds, self.batch = x, y, list(seeds), min(batch, len(x))
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (members, batch, in), (members, batch, out)."""
        batches = len(self.x) // self.batch
        while True:
            drawn = {seed: torch.randperm(len(self.x), generator=g) for seed, g in self.generators.items()}
            rows = torch.stack([drawn[seed] for seed in self.seeds])[:, : batches * self.batch]
            order = rows.view(len(self.seeds), batches, self.batch).transpose(0, 1)
            yield from zip(self.x[order], self.y[order], strict=True)


class _SGD:
    """Stochastic gradient descent with momentum, a rate and a weight decay for each member."""

    def __init__(self, parameters: dict[str, Tensor], recipes: Sequence[Recipe]):
        self.momentum, self.lasso = recipes[0].momentum, recipes[0].lasso
        self.velocities = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.lr, self.decay = (
            torch.tensor([getattr(recipe, name) for recipe in recipes]) for name in ("lr", "weight_decay")
        )
        self.retire(parameters, torch.arange(len(recipes)))

    def retire(self, parameters: dict[str, Tensor], kept: Tensor) -> None:
        """Goes on with these members, whose parameters now are `parameters`."""
        self.parameters = list(parameters.values())
        self.velocities = {name: v[kept] for name, v in self.velocities.items()}
        self.lr, self.decay = self.lr[kept], self.decay[kept]
        self.decays = self._each(self.decay) if self.decay.any() else None
        self.rate: float | None = None

    def _each(self, values: Tensor) -> list[Tensor]:
        return [values.view(-1, *[1] * (p.dim() - 1)) for p in self.parameters]

    @torch.no_grad()
    def step(self, named: dict[str, Tensor], rate: float) -> None:
        velocities = list(self.velocities.values())
        gradients = [named[name] for name in self.velocities]
        if rate != self.rate:
            self.rate, self.steps = rate, self._each(-rate * self.lr)
        if self.lasso:
            first = self.parameters[0]
            norms = first.norm(dim=-1, keepdim=True).clamp_min(
                1e-3
            )  # a row near 0 rests there instead of jumping over it
            gradients[0].add_(first / norms, alpha=self.lasso)
        if self.decays:
            gradients = list(torch._foreach_addcmul(gradients, self.parameters, self.decays))
        torch._foreach_mul_(velocities, self.momentum)
        torch._foreach_add_(velocities, gradients)
        torch._foreach_addcmul_(self.parameters, velocities, self.steps)


def train(
    networks: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    x: Tensor,
    y: Tensor,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    every: float = 0.5,
) -> None:
    """Trains networks of one shape together, in place, by SGD on the mean squared error.

    x: (n, in); y: (n, out). Recipes may differ in lr and weight_decay; a seed fixes the order of the batches, so that a
    network's result does not depend on its company. A member whose loss is no longer finite is retired as it stands.
    `on_progress` is called about every `every` seconds and at the end. Raises ValueError where the arguments do not fit together.
    """
    recipe = _common(networks, recipes, seeds, x, y)
    members = Members(networks)
    optimizer = _SGD(members.parameters, recipes)
    start = last = time.perf_counter()
    batches = _Batches(x, y, seeds, recipe.batch)
    for step, batch in zip(range(recipe.iterations), batches, strict=False):
        inputs, targets = batch if len(members.alive) == len(networks) else (part[members.alive] for part in batch)
        errors, gradients = members.gradients(inputs, targets)
        optimizer.step(gradients, recipe.rate(step))
        now = time.perf_counter()
        over = step + 1 == recipe.iterations
        if step % _LOOK_EVERY == 0 and not (finite := errors.isfinite().all(2).all(1)).all():
            over = over or not finite.any()
            kept = finite.nonzero().flatten()
            if not over:
                errors = errors[kept]
                members.retire(kept)
                optimizer.retire(members.parameters, kept)
        if on_progress and (over or now - last > every):
            loss = members.spread(errors.square().mean((1, 2)))
            on_progress(
                Progress(recipe.iterations if over else step + 1, recipe.iterations, now - start, loss, members.predict)
            )
            last = now
        if over:
            break
    members.write_back()


def _common(
    networks: Sequence[nn.Module], recipes: Sequence[Recipe], seeds: Sequence[int], x: Tensor, y: Tensor
) -> Recipe:
    if not len(networks) == len(recipes) == len(seeds) > 0:
        raise ValueError(
            f"give as many recipes and seeds as networks: {len(networks)}, {len(recipes)} and {len(seeds)} came"
        )
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"x and y must be (n, in) and (n, out), got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must have the same rows, at least one: {len(x)} and {len(y)} came")
    named = dict(networks[0].named_parameters())
    if frozen := [name for name, parameter in named.items() if not parameter.requires_grad]:
        raise ValueError(f"every parameter is trained, but {frozen[0]} does not require gradients")
    if recipes[0].lasso and not next(iter(named), "").endswith("weight"):
        raise ValueError("lasso needs a network whose first parameter is the weight of a Linear")
    common = {replace(recipe, lr=1.0, weight_decay=0.0) for recipe in recipes}
    if len(common) > 1:
        raise ValueError("recipes trained together may differ in lr and weight_decay only")
    return common.pop()


def predict(networks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """What each network makes of x, without gradients.  x: (n, in) -> (members, n, out)."""
    return Members(networks).predict(x)
