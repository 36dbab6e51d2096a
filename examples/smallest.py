"""The smallest net for a budget: accuracy on digits over the bytes of a net, HanNets beside dense ones.

Three seeds of each size train side by side; the line is the median, the band the range.
"""

import torch
from sklearn.datasets import load_digits

from _gallery import arguments, save
from hannet import FCNet, HanNet
from hannet.reporting.figures import new_figure
from hannet.train import Recipe, predict, train

BUDGET = 8  # kB
SIZES = {"HanNet": (HanNet, 8, (6, 10, 16, 24, 36, 54)), "dense + ReLU": (FCNet, 2, (6, 10, 16, 24, 36, 54))}
options = arguments()
recipe = Recipe(
    lr=0.005, optimizer="adam", schedule="cosine", loss="cross_entropy", epochs=1 if options.quick else 60, batch=50
)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
targets = torch.nn.functional.one_hot(y).float()

figure = new_figure(6, 3.6)
axes = figure.subplots()
for label, (kind, depth, widths) in SIZES.items():
    sizes, accuracies = [], []
    for width in widths:
        torch.manual_seed(0)
        nets = [kind(64, 10, width=width, depth=depth) for _ in range(3)]
        train(nets, [recipe] * 3, [0, 1, 2], x[:1200], targets[:1200])
        right = (predict(nets, x[1200:]).argmax(2) == y[1200:]).double().mean(1)
        sizes.append(4 * sum(p.numel() for p in nets[0].parameters()) / 1000)
        accuracies.append(100 * right.sort().values)
    low, median, high = torch.stack(accuracies).T
    axes.plot(sizes, median, marker="o", label=f"{label}, depth {depth}")
    axes.fill_between(sizes, low, high, alpha=0.2)
axes.axvline(BUDGET, color="gray", linestyle=":", label=f"a budget of {BUDGET} kB")
axes.set(xlabel="kB of float32", ylabel="accuracy on unseen digits, %", xscale="log")
axes.set_xticks([2, 4, 8, 16, 32], [2, 4, 8, 16, 32], minor=False)
axes.minorticks_off()
axes.legend()
save(figure, options.picture)
