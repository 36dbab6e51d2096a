"""A HanLinear beside a matrix of low rank: how near each comes to a weight, for the same number of parameters.

The weights are 96 x 64: one whose singular values fall off, as in trained nets, and one that is orthogonal.
"""

import torch
from torch import nn

from _gallery import arguments, save
from hannet import HanLinear
from hannet.reporting.figures import new_figure

ROWS, COLUMNS = 96, 64
options = arguments()
torch.manual_seed(0)
left, right = (nn.init.orthogonal_(torch.empty(size, COLUMNS)) for size in (ROWS, COLUMNS))
values = torch.arange(1, COLUMNS + 1).float()
weights = {
    "singular values 1/i": left @ torch.diag(1 / values) @ right.T,
    "orthogonal": left @ right.T,
}

figure = new_figure(8, 3.4)
panels = figure.subplots(1, 2, sharey=True)
for axes, (title, weight) in zip(panels, weights.items(), strict=True):
    singular = torch.linalg.svdvals(weight)
    ranks = range(1, COLUMNS // 2)
    errors = [singular[rank:].norm() / singular.norm() for rank in ranks]
    axes.plot([rank * (ROWS + COLUMNS) for rank in ranks], errors, label="low rank, the best there is")
    linear = nn.Linear(COLUMNS, ROWS, bias=False)
    linear.weight = nn.Parameter(weight)
    sizes, errors = [], []
    for reflections in (1, 4) if options.quick else (1, 2, 4, 8, 16, 24):
        layer = HanLinear.from_linear(linear, reflections, steps=0 if options.quick else 100)
        sizes.append(sum(p.numel() for p in layer.parameters()))
        errors.append(layer.relative_error)
    axes.plot(sizes, errors, marker="o", label="HanLinear, fitted")
    axes.set(xlabel="parameters", title=title)
panels[0].set_ylabel("relative error")
panels[1].legend()
save(figure, options.picture)
