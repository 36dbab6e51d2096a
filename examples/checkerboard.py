"""The checkerboard as a HanNet learns it: the surface after a few epochs, and at the end.

The net sees a quarter of the points. For a long time little happens; then stripes appear, and the squares follow.
"""

import torch

from _gallery import arguments, save
from hannet import HanNet
from hannet.data.synthetic import SIDE, checkerboard
from hannet.reporting.figures import new_figure
from hannet.train import Callback, Recipe, TrainingState, train


class Surfaces(Callback):
    """The surface after some of the epochs."""

    def __init__(self, epochs: list[int], mesh: torch.Tensor):
        self.epochs, self.mesh, self.found = epochs, mesh, {}

    def on_epoch_end(self, state: TrainingState) -> None:
        """Keeps it."""
        if state.epoch in self.epochs:
            self.found[state.epoch] = state.predict(self.mesh)[0].mean(1)


options = arguments()
epochs = [1, 2, 3, 4] if options.quick else [10, 100, 400, 1600]
square = checkerboard()
torch.manual_seed(1)
net = HanNet(2, 2, width=100, depth=20, dense_ends=True)
recipe = Recipe(lr=0.05, schedule="cosine", epochs=epochs[-1], batch=100)
surfaces = Surfaces(epochs, square.mesh)
train([net], [recipe], [0], square.x_train, square.y_train, callbacks=[surfaces])

figure = new_figure(10, 2.4)
panels = figure.subplots(1, 5, sharex=True, sharey=True)
for axes, (epoch, surface) in zip(panels, [*surfaces.found.items(), (None, square.target)], strict=True):
    right = ((surface > 0.5) == (square.target > 0.5)).double().mean()
    axes.imshow(surface.reshape(SIDE, SIDE).T, vmin=0, vmax=1, origin="lower", extent=(-1, 1, -1, 1))
    axes.set_title("target" if epoch is None else f"epoch {epoch}: {right:.1%} right", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
save(figure, options.picture)
