"""Losses of members: value and slope from outputs and targets (members, batch, out), and weights (members, batch)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """value: each member's loss, (members,); slope: its derivative by the outputs, in memory of its own."""

    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return (values if weights is None else values * weights).mean(1)


def _weighted(slope: Tensor, weights: Tensor | None) -> Tensor:
    return slope if weights is None else slope.mul_(weights[..., None])


def _mse(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean((outputs - y).square().mean(2), weights)


def _mse_slope(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _weighted((outputs - y).mul_(2 / outputs[0].numel()), weights)


def _cross_entropy(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _mean(-(y * outputs.log_softmax(2)).sum(2), weights)


def _cross_entropy_slope(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    return _weighted(outputs.softmax(2).sub_(y).div_(outputs.shape[1]), weights)


LOSSES: Mapping[str, Loss] = {
    "mse": Loss(_mse, _mse_slope),
    "cross_entropy": Loss(_cross_entropy, _cross_entropy_slope),
}
