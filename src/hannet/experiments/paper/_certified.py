"""What the experiments on certified nets share: HanNets and deel-torchlip's dense net, trained alike, judged by hannet.certify."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...certify import certificates
from ...layers.activations import GroupSort
from ...models.registry import seeded
from ...reporting.progress import OnProgress
from ...train.losses import single_network_loss
from ...train.recipe import Recipe
from ..record import Run
from . import _mnist

BATCH = 256
RADII = (0.5, 1.58)
RECIPE = Recipe(lr=3e-3, optimizer="adam", schedule="cosine", batch=BATCH, loss="cross_entropy")


def train(run: Run, label: str, on_progress: OnProgress) -> nn.Module:
    """The net of a run, trained on its data, in float64."""
    recipe = Recipe(**run.config["recipe"])
    if run.config["network"]["kind"] == "torchlip":
        return _dense(run, recipe, label, on_progress).double().eval()
    network = _mnist.build(run.config["network"], run.seed)
    _mnist.fit([network], [recipe], [run.seed], run.config["data"], label, on_progress)
    return network.double().eval()


def judge(network: nn.Module, images: _mnist.Digits, radii: Sequence[float] = RADII) -> tuple[float, list[float]]:
    """The accuracy, and the shares of images that are right and provably stay so within each l2 radius; 0 of a net that diverged."""
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        return 0.0, [0.0 for _ in radii]
    classes, certified = certificates(network, images.x.double())
    right = classes == images.y
    shares = [(right & (certified > radius)).double().mean().item() for radius in radii]
    return right.double().mean().item(), shares


def spectral_net(config: Mapping[str, Any], seed: int) -> nn.Module:
    """deel-torchlip's net of so many spectrally normalised hidden layers, made orthogonal by Bjorck's iteration, with GroupSort2."""
    from deel import torchlip

    width, hidden = config["width"], config["hidden"]
    with seeded(seed):
        layers: list[nn.Module] = []
        for before in (_mnist.PIXELS, *[width] * (hidden - 1)):
            layers += [torchlip.SpectralLinear(before, width), torchlip.GroupSort2()]
        return torchlip.Sequential(*layers, torchlip.FrobeniusLinear(width, _mnist.CLASSES, disjoint_neurons=True))


def plain(network: nn.Module) -> nn.Module:
    """A spectral net with ordinary layers, which a certificate knows."""
    from deel import torchlip

    layers: nn.Sequential = network.eval().vanilla_export()  # type: ignore[operator]
    return nn.Sequential(*(GroupSort(2) if isinstance(one, torchlip.GroupSort2) else one for one in layers))


def _dense(run: Run, recipe: Recipe, label: str, on_progress: OnProgress) -> nn.Module:
    """The spectral net of a run, trained by PyTorch's own loop."""
    train_rows = _mnist.digits(run.config["data"], "train")
    network = spectral_net(run.config["network"], run.seed)
    loss = single_network_loss(recipe.loss, recipe.temperature, recipe.margin, recipe.alpha)
    optimizer = torch.optim.Adam(network.parameters(), recipe.lr)
    rates = recipe.learning_rates(recipe.iterations)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rates.rate(done / recipe.iterations))
    watch = _mnist.Steps(label, "it", on_progress)
    generator, step = torch.Generator().manual_seed(run.seed), 0
    while step < recipe.iterations:
        order = torch.randperm(len(train_rows.y), generator=generator)
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss(network(train_rows.x[rows]), train_rows.y[rows]).backward()
            optimizer.step()
            schedule.step()
            step += 1
            watch(step, recipe.iterations)
    same = plain(network)
    _check_same(same, network, train_rows.x[:100])
    return same


@torch.no_grad()
def _check_same(first: nn.Module, second: nn.Module, x: Tensor) -> None:
    assert torch.allclose(first(x), second(x), atol=1e-4, equal_nan=True), "the plain layers compute something else"
