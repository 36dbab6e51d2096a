"""Where an ensemble disagrees: twenty HanNets, trained side by side in one call, on points with a gap.

Where there are points the nets agree; in the gap and beyond the ends they differ. The spread is a hint, not a bound.
"""

import torch

from _gallery import arguments, save
from hannet import HanNet
from hannet.reporting.figures import new_figure
from hannet.train import Recipe, predict, train

MEMBERS = 20
options = arguments()
torch.manual_seed(0)
x = torch.cat([torch.rand(80, 1) * 0.5 - 1, torch.rand(80, 1) * 0.5 + 0.5])
y = torch.sin(5 * x) + 0.1 * torch.randn_like(x)
nets = [HanNet(1, 1, width=32, depth=8) for _ in range(MEMBERS)]
recipe = Recipe(lr=0.003, optimizer="adam", schedule="cosine", iterations=20 if options.quick else 2000, batch=40)
train(nets, [recipe] * MEMBERS, list(range(MEMBERS)), x, y)

line = torch.linspace(-1.5, 1.5, 300)[:, None]
found = predict(nets, line)[:, :, 0]
mean, spread = found.mean(0), 2 * found.std(0)

figure = new_figure(6, 3.6)
axes = figure.subplots()
axes.plot(line[:, 0], found.T, color="tab:blue", alpha=0.2, linewidth=0.7)
axes.plot(line[:, 0], mean, color="tab:blue", label="mean of twenty")
axes.fill_between(line[:, 0], mean - spread, mean + spread, alpha=0.2, label="two standard deviations")
axes.plot(x[:, 0], y[:, 0], ".", color="black", markersize=3, label="training points")
axes.plot(line[:, 0], torch.sin(5 * line[:, 0]), "--", color="gray", label="truth")
axes.set(ylim=(-2.5, 2.5), xlabel="x", ylabel="y")
axes.legend(fontsize=8)
save(figure, options.picture)
