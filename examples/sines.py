"""A sum of a slow and a fast sine: what a HanNet and a dense net with as many parameters make of a quarter of the points.

Dense nets with ReLU learn low frequencies first and fit the rest point by point.
"""

import torch

from _gallery import arguments, save
from hannet import FCNet, HanNet
from hannet.data.synthetic import SIDE, sines
from hannet.reporting.figures import new_figure
from hannet.train import Recipe, predict, train

options = arguments()
square = sines()
torch.manual_seed(0)
nets = {"HanNet": HanNet(2, 1, width=200, depth=20), "dense + ReLU": FCNet(2, 1, width=45, depth=5)}
rates = {"HanNet": 0.025, "dense + ReLU": 0.01}
iterations = 20 if options.quick else 20_000
shown = {"target": square.target}
for label, net in nets.items():
    recipe = Recipe(lr=rates[label], schedule="cosine", iterations=iterations, batch=100)
    train([net], [recipe], [0], square.x_train, square.y_train)
    shown[label] = predict([net], square.mesh)[0, :, 0]

figure = new_figure(8, 3.2)
panels = figure.subplots(1, 3, sharex=True, sharey=True)
for axes, (label, surface) in zip(panels, shown.items(), strict=True):
    axes.imshow(surface.reshape(SIDE, SIDE).T, vmin=-2, vmax=2, cmap="RdBu", origin="lower", extent=(-1, 1, -1, 1))
    error = (surface - square.target).square().mean()
    size = sum(p.numel() for p in nets[label].parameters()) if label in nets else 0
    axes.set_title(f"{label}: {size:,} parameters\nMSE {error:.4f}" if size else label, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
save(figure, options.picture)
