"""One bit a number is enough to go back: an input rebuilt from the output of 200 Han-layers and the signs on the way.

y = |H(u) x + b| loses only the sign. With it x = H(u) (s y - b), which is how training does without stored activations.
"""

import torch
from sklearn.datasets import load_digits

from _gallery import arguments, save
from hannet.functional import han_layer, householder
from hannet.reporting.figures import new_figure

options = arguments()
depth = 10 if options.quick else 200
torch.manual_seed(0)
digit = torch.tensor(load_digits().images[3], dtype=torch.float32).flatten() / 16
u, b = torch.randn(depth, 64), torch.randn(depth, 64) / 8

x, signs = digit, []
for layer in range(depth):
    signs.append(householder(x, u[layer], b[layer]) < 0)
    x = han_layer(x, u[layer], b[layer])
output = x
for layer in reversed(range(depth)):
    y = torch.where(signs[layer], -x, x)
    x = householder(y - b[layer], u[layer])
error = (x - digit).norm() / digit.norm()

figure = new_figure(7, 2.4)
panels = figure.subplots(1, 4, width_ratios=(1, 1, 2, 1))
shown = {
    "digit": digit.view(8, 8),
    f"after {depth} layers": output.view(8, 8),
    "signs: a row a layer": torch.stack(signs),
    f"rebuilt, error {error:.0e}": x.view(8, 8),
}
for axes, (title, values) in zip(panels, shown.items(), strict=True):
    axes.imshow(values, cmap="gray_r", interpolation="nearest", aspect="auto" if len(values) == depth else "equal")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
save(figure, options.picture)
