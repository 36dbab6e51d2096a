"""Certified radii on digits: how far an image may change, in any direction, before its class can.

A net of Han-layers with unit rows at the end is 1-Lipschitz, so the margin between two outputs proves a radius.
"""

import torch
from sklearn.datasets import load_digits

from _gallery import arguments, save
from hannet import HanNet
from hannet.certify import certified_radius
from hannet.reporting.figures import new_figure
from hannet.train import Recipe, train

options = arguments()
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
torch.manual_seed(0)
net = HanNet(64, 10, width=128, depth=4, reflections=16, lipschitz=True)
epochs = 2 if options.quick else 80
recipe = Recipe(lr=0.003, optimizer="adam", schedule="cosine", loss="hkr", margin=1.0, epochs=epochs, batch=50)
train([net], [recipe], [0], x[:1200], torch.nn.functional.one_hot(y[:1200]).float())

net, x, y = net.double().eval(), x[1200:].double(), y[1200:]
radius = certified_radius(net, x)
right = net(x).argmax(1) == y
found = torch.where(right, radius, torch.zeros_like(radius))

figure = new_figure(8, 3.4)
grid = figure.add_gridspec(2, 6, width_ratios=(3, 3, 2, 2, 2, 2))
curve = figure.add_subplot(grid[:, :2])
distances = torch.linspace(0, 1.5, 200)
curve.plot(distances, [100 * (found > distance).double().mean() for distance in distances])
curve.set(xlabel="change of the image (l2)", ylabel="% right, and proved to stay right", ylim=(0, 100))
order = found.argsort()
order = order[found[order] > 0]
for row, (label, images) in enumerate({"least": order[:4], "most": order[-4:]}.items()):
    for column, image in enumerate(images):
        axes = figure.add_subplot(grid[row, column + 2])
        axes.imshow(x[image].view(8, 8), cmap="gray_r")
        axes.set_title(f"{label}: {found[image]:.2f}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
save(figure, options.picture)
