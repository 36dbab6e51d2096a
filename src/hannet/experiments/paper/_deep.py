"""Deep nets, the gradient at each of their layers, and what a step of training them costs.

A net of depth L has L hidden layers of one width. The first is dense in each, since it changes the number of features.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ... import functional
from ...models.baselines import OrthogonalNet
from ...models.hannet import FCNet, HanNet
from ...models.registry import register

Layer = Callable[[Tensor], Tensor]
LossOf = Callable[[Tensor], Tensor]  # from a net's outputs


@register("orthogonal FCNet")
def orthogonal_fcnet(in_features: int, out_features: int, width: int, depth: int) -> FCNet:
    """An FCNet with ABS whose weights start orthogonal, so that at the start it keeps norms as Han-layers do."""
    net = FCNet(in_features, out_features, width, depth, "abs")
    for layer in net.layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
    return net


class _Blocks(nn.Module):
    """`count` times x + Linear(ReLU(LayerNorm(x))), whose parameters are one tensor each: steps take half the time that way."""

    def __init__(self, width: int, count: int):
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.gain = nn.Parameter(torch.ones(count, width))
        self.shift = nn.Parameter(torch.zeros(count, width))
        self.weight = nn.Parameter(torch.empty(count, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))

    def layers(self) -> list[Layer]:
        parameters = (self.gain, self.shift, self.weight, self.bias)
        return [partial(_block, *own) for own in zip(*(p.unbind() for p in parameters), strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers():
            x = layer(x)
        return x


def _block(gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return x + F.linear(F.relu(F.layer_norm(x, gain.shape, gain, shift)), weight, bias)


@register("residual")
class ResidualNet(nn.Module):
    """Linear, depth - 1 times x + Linear(ReLU(LayerNorm(x))), LayerNorm, Linear.  x: (..., in) -> (..., out).

    The order of He et al. (2016), "Identity mappings in deep residual networks"; weights start as in nn.Linear. The blocks come in
    groups of about sqrt(depth), of which a step of training keeps the inputs alone if `checkpointing` is set.
    """

    def __init__(self, in_features: int, out_features: int, width: int, depth: int):
        super().__init__()
        size = math.isqrt(depth) + 1
        counts = [min(size, depth - 1 - start) for start in range(0, depth - 1, size)]
        self.first, self.last = nn.Linear(in_features, width), nn.Linear(width, out_features)
        self.groups = nn.ModuleList(_Blocks(width, count) for count in counts)
        self.norm = nn.LayerNorm(width)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for group in self.groups:
            x = checkpoint(group, x, use_reentrant=False) if self.checkpointing else group(x)
        return self.last(self.norm(x))


def layers_of(network: nn.Module) -> tuple[list[Layer], Layer]:
    """The hidden layers of one of these nets, and what comes after them."""
    match network:
        case HanNet():
            first, fold, stack, last = network.layers
            pairs = zip(stack.u, stack.b, strict=True)  # type: ignore[arg-type]
            return [nn.Sequential(first, fold), *(partial(functional.han_layer, u=u, b=b) for u, b in pairs)], last
        case FCNet():
            *hidden, last = network.layers
            return [nn.Sequential(*pair) for pair in zip(hidden[::2], hidden[1::2], strict=True)], last
        case ResidualNet():
            blocks = [layer for group in network.groups for layer in group.layers()]  # type: ignore[operator]
            return [network.first, *blocks], nn.Sequential(network.norm, network.last)
        case OrthogonalNet():
            pairs = zip(network.hidden.weight, network.hidden.bias, strict=True)
            return [
                partial(_dense, *network.first.parameters()),
                *(partial(_dense, *pair) for pair in pairs),
            ], network.last
    raise TypeError(f"the hidden layers of a {type(network).__name__} are not known")


def _dense(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, weight, bias).abs()


def gradient_norms(network: nn.Module, x: Tensor, loss: LossOf) -> list[float]:
    """The norm of the loss's gradient by the output of each hidden layer, over all rows of x, first to last."""
    hidden, last = layers_of(network)
    outputs = []
    for layer in hidden:
        x = layer(x)
        outputs.append(x)
    gradients = torch.autograd.grad(loss(last(x)), outputs)
    return [float(gradient.double().norm()) for gradient in gradients]


@torch.no_grad()
def distance_kept(network: nn.Module, x: Tensor) -> float:
    """How far rows of x are apart after the last hidden layer, over how far they are after the first; beside their norms.

    Near 0, the outputs hardly depend on the inputs, whatever the gradients' norms.
    """
    hidden, _ = layers_of(network)
    apart = []
    for number, layer in enumerate(hidden):
        x = layer(x)
        if number in (0, len(hidden) - 1):
            norms = x.double().norm(dim=1)
            apart.append(float(((x[1:] - x[:-1]).double().norm(dim=1) / (norms[1:] * norms[:-1]).sqrt()).mean()))
    return apart[-1] / apart[0]


def spread(norms: Sequence[float]) -> float:
    """The largest over the smallest; infinite where one vanishes, and NaN where one is not finite."""
    if not all(map(math.isfinite, norms)):
        return math.nan
    return max(norms) / min(norms) if min(norms) > 0 else math.inf


class StepCost(NamedTuple):
    """seconds: of the processor, the median of a few steps; bytes: the most that a step holds, with parameters and optimizer."""

    seconds: float
    bytes: int


def step_cost(network: nn.Module, x: Tensor, loss: LossOf, steps: int = 5) -> StepCost:
    """What a step of Adam costs with the batch x, the net trained alone by autograd as anyone would. Changes its parameters."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(network(x)).backward()
        optimizer.step()

    step()
    times = []
    for _ in range(steps):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    optimizer.zero_grad()
    held = 3 * sum(p.numel() * p.element_size() for p in network.parameters())  # with Adam's two averages
    return StepCost(median(times), held + _peak(step))


def _peak(call: Callable[[], None]) -> int:
    """The most bytes of tensors that a call holds at once, beyond those from before it."""
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
    ):
        call()
    return max(_running_sums(profile), default=0)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Inside, nothing reaches stderr: the profiler's C++ writes two lines there that no setting turns off."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _running_sums(profile: torch.profiler.profile) -> Iterator[int]:
    """Bytes held after each allocation and release, in their order."""
    assert profile.profiler
    results = profile.profiler.kineto_results
    assert results
    total = 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        total += event.nbytes()  # type: ignore[attr-defined]  # the stub lacks it
        yield total
