"""Losses of members: value and slope from outputs and targets (members, batch, out), and weights (members, batch)."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
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


def _cross_entropy(temperature: float) -> Loss:
    def value(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return _mean(-temperature * (y * (outputs / temperature).log_softmax(2)).sum(2), weights)

    def slope(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return _weighted((outputs / temperature).softmax(2).sub_(y).div_(outputs.shape[1]), weights)

    return Loss(value, slope)


def _multi_margin(margin: float) -> Loss:
    """The mean over the classes of max(0, margin - (f_true - f_other)), whose own class counts 0."""

    def short(outputs: Tensor, y: Tensor) -> Tensor:
        return (margin - (outputs * y).sum(2, keepdim=True) + outputs).clamp_min(0) * (1 - y)

    def value(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return _mean(short(outputs, y).mean(2), weights)

    def slope(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        falls = (short(outputs, y) > 0).to(outputs.dtype)
        return _weighted(falls.sub_(y * falls.sum(2, keepdim=True)).div_(outputs[0].numel()), weights)

    return Loss(value, slope)


def _hkr(margin: float, alpha: float) -> Loss:
    """alpha mean max(0, margin / 2 -+ f_c) - mean_c (E[f_c | class c] - E[f_c | another]) (Serrurier et al. 2021)."""

    def shares(y: Tensor) -> Tensor:
        ours = y.sum(1, keepdim=True)
        return y / ours.clamp_min(1) - (1 - y) / (y.shape[1] - ours).clamp_min(1)

    def value(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        hinge = (margin / 2 - (2 * y - 1) * outputs).clamp_min(0)
        return _mean((alpha * hinge - y.shape[1] * shares(y) * outputs).mean(2), weights)

    def slope(outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        sign = 2 * y - 1
        hinge = -sign * (margin / 2 - sign * outputs > 0)
        return _weighted((alpha * hinge / y.shape[1] - shares(y)).div_(y.shape[2]), weights)

    return Loss(value, slope)


NAMES = ("mse", "cross_entropy", "multi_margin", "hkr")


def loss(name: str, temperature: float = 1.0, margin: float = 1.0, alpha: float = 10.0) -> Loss:
    """The loss of a name in NAMES. Cross entropy takes outputs / temperature (and its value times it), the others margins."""
    match name:
        case "mse":
            return Loss(_mse, _mse_slope)
        case "cross_entropy":
            return _cross_entropy(temperature)
        case "multi_margin":
            return _multi_margin(margin)
        case "hkr":
            return _hkr(margin, alpha)
    raise ValueError(f"loss must be one of {', '.join(NAMES)}, got {name!r}")


def single_network_loss(name: str, temperature: float, margin: float, alpha: float) -> Callable[..., Tensor]:
    """The same losses for one network: outputs (batch, out), targets as above or classes (batch,), weights (batch,) -> ()."""
    value = loss(name, temperature, margin, alpha).value

    def of_batch(outputs: Tensor, y: Tensor, *weights: Tensor) -> Tensor:
        if y.dim() == 1 and name == "cross_entropy" and temperature == 1 and not weights:
            return F.cross_entropy(outputs, y)  # the same in fewer passes
        if y.dim() == 1:
            y = F.one_hot(y, outputs.shape[1]).to(outputs.dtype)
        return value(outputs[None], y[None], *(column[None] for column in weights))[0]

    return of_batch
