"""Norms of gradients through 1,000 layers: Han-layers, dense layers with ReLU, orthogonal layers with ReLU.

Reflections and the absolute value keep the norm of what flows back; the others lose or gain a factor in every layer.
"""

import torch
from torch import nn

from _gallery import arguments, save
from hannet import HanLayer
from hannet.reporting.figures import new_figure

WIDTH = 64
options = arguments()
depth = 50 if options.quick else 1000


def dense(initialise: object) -> nn.Module:
    """Linear + ReLU with weights drawn in some way."""
    linear = nn.Linear(WIDTH, WIDTH)
    initialise(linear.weight)
    return nn.Sequential(linear, nn.ReLU())


def he(weight: torch.Tensor) -> None:
    """As usual before a ReLU."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


KINDS = {
    "Han-layers": lambda: HanLayer(WIDTH),
    "dense + ReLU (He)": lambda: dense(he),
    "orthogonal + ReLU": lambda: dense(nn.init.orthogonal_),
}
figure = new_figure(6, 3.6)
axes = figure.subplots()
for label, make in KINDS.items():
    torch.manual_seed(0)
    outputs = [torch.randn(32, WIDTH, dtype=torch.float64, requires_grad=True)]
    for _ in range(depth):
        outputs.append(make().double()(outputs[-1]))
        outputs[-1].retain_grad()
    outputs[-1].backward(torch.randn_like(outputs[-1]))
    norms = torch.stack([output.grad.norm() for output in outputs])
    axes.semilogy(norms / norms[-1], label=label)
axes.set(xlabel="layer", ylabel="norm of the gradient, last layer's = 1", ylim=(1e-20, 1e3), title=f"{depth:,} layers")
axes.legend()
save(figure, options.picture)
