"""Networks that others would try on the square, for comparison: orthogonal dense layers, SIREN, random Fourier features."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from .hannet import FCNet, HanNet


def frozen_hannet(in_features: int, out_features: int, width: int = 100, depth: int = 20) -> HanNet:
    """A HanNet whose reflections u stay as they were drawn; everything else is learnt."""
    net = HanNet(in_features, out_features, width, depth)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.endswith(".u"))
    return net


class OrthogonalNet(nn.Module):
    """Linear + ABS, depth - 1 layers |Q x + b| with Q any orthogonal matrix (Cayley map), Linear.  x: (..., in) -> (..., out)."""

    def __init__(self, in_features: int, out_features: int, width: int = 20, depth: int = 10):
        super().__init__()
        self.first, self.last = nn.Linear(in_features, width), nn.Linear(width, out_features)
        self.hidden = _Dense(width, depth - 1)
        for weight in (self.first.weight, self.last.weight, *self.hidden.weight.detach()):
            nn.init.orthogonal_(weight)
        parametrizations.orthogonal(self.hidden, "weight", "cayley")

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).abs()
        for weight, bias in zip(self.hidden.weight, self.hidden.bias, strict=True):
            x = F.linear(x, weight, bias).abs()
        return self.last(x)


class _Dense(nn.Module):
    """The weights of several layers as one tensor, so that one call makes all of them orthogonal."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layers, width, width))
        bound = 1 / math.sqrt(width)
        self.bias = nn.Parameter(torch.empty(layers, width).uniform_(-bound, bound))


class Siren(nn.Module):
    """`depth` hidden layers sin(omega (W x + b)), then Linear.  x: (..., in_features) -> (..., out_features).

    W starts uniform, in +-1/in_features first and in +-sqrt(6/width)/omega after (Sitzmann et al., 2020).
    """

    omega: Tensor

    def __init__(self, in_features: int, out_features: int, width: int = 44, depth: int = 3, omega: float = 30.0):
        super().__init__()
        self.register_buffer("omega", torch.tensor(omega))  # so that members may differ in it
        hidden = [nn.Linear(*sizes) for sizes in pairwise([in_features, *[width] * depth])]
        self.hidden, self.last = nn.ModuleList(hidden), nn.Linear(width, out_features)
        bound = math.sqrt(6 / width) / omega
        for layer in (*hidden, self.last):
            nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(hidden[0].weight, -1 / in_features, 1 / in_features)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.sin(self.omega * layer(x))
        return self.last(x)


class FourierNet(nn.Module):
    """FCNet of cos(2 pi B x) and sin(2 pi B x), B fixed, N(0, sigma^2) (Tancik et al., 2020).  x: (..., in) -> (..., out)."""

    B: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 40,
        depth: int = 2,
        frequencies: int = 31,
        sigma: float = 1.0,
    ):
        super().__init__()
        self.register_buffer("B", sigma * torch.randn(frequencies, in_features))
        self.net = FCNet(2 * frequencies, out_features, width, depth)

    def forward(self, x: Tensor) -> Tensor:
        angles = 2 * math.pi * F.linear(x, self.B)
        return self.net(torch.cat([angles.cos(), angles.sin()], -1))
