"""What the experiments on MNIST share: the images as rows, nets of a config, and their training (section 5.1).

The paper trains on 10,000 images. Here these are drawn once from the 60,000 training images, as are 10,000 of the others to
validate on; MNIST's own 10,000 test images test. Pixels are in [0, 1].
"""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import images
from ...layers.han import HanStack
from ...models.registry import build_model, register
from ...reporting.progress import OnProgress, ProgressEvent
from ...train import trainer as training
from ...train.callbacks import ProgressReporter
from ...train.recipe import Recipe

PIXELS, CLASSES = 784, 10
FEW: dict[str, Any] = {"set": "mnist", "train": 10_000, "validation": 10_000, "split_seed": 0}
ALL: dict[str, Any] = {"set": "mnist", "train": 60_000, "validation": 0, "split_seed": 0}
PROTOCOL = Recipe(  # Table 4; the rate x 0.2 at half
    lr=1e-3, optimizer="adam", loss="cross_entropy", weight_decay=1e-3, batch=256, milestones=(0.5,)
)
Part = Literal["train", "validation", "rest", "test"]


class Digits(NamedTuple):
    """x: (n, 784), float32 in [0, 1]; y: (n,), int64."""

    x: Tensor
    y: Tensor

    def accuracy(self, logits: Tensor) -> Tensor:
        """The share of rows whose largest logit is at their class; none of a net that diverged.  (..., n, 10) -> (...)."""
        return ((logits.argmax(-1) == self.y) & logits.isfinite().all(-1)).double().mean(-1)


@cache
def _whole(part: Literal["train", "test"]) -> Digits:
    held = images.mnist(part)
    return Digits(held.x.flatten(1).float() / 255, held.y)


def digits(data: Mapping[str, Any], part: Part) -> Digits:
    """A part of a config's data; `rest` are all of MNIST's 70,000 images but those that train."""
    if part == "test":
        return _whole("test")
    whole = _whole("train")
    order = torch.randperm(len(whole.y), generator=torch.Generator().manual_seed(data["split_seed"]))
    first, second = data["train"], data["train"] + data["validation"]
    rows = {"train": order[:first], "validation": order[first:second], "rest": order[first:]}[part]
    chosen = Digits(whole.x[rows], whole.y[rows])
    return chosen if part != "rest" else Digits(*map(torch.cat, zip(chosen, _whole("test"), strict=True)))


@register("Han-layers")
def han_classifier(layers: int, in_features: int = PIXELS, out_features: int = CLASSES) -> nn.Sequential:
    """Han-layers straight on the pixels, then a Linear, which starts orthogonal as in a HanNet (Figure 8)."""
    last = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(last.weight)
    return nn.Sequential(HanStack(in_features, layers), last)


def build(network: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of a config, its start fixed by the seed."""
    return build_model(**network, seed=seed, in_features=PIXELS, out_features=CLASSES)


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters())


def iterations(data: Mapping[str, Any], batch: int, epochs: int) -> int:
    """Steps of that many epochs; the last batch of an epoch is left out if it is not full."""
    return epochs * (data["train"] // batch)


def fit(
    networks: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    data: Mapping[str, Any],
    label: str,
    on_progress: OnProgress,
) -> None:
    """Trains the networks side by side, in place."""
    train = digits(data, "train")

    targets = F.one_hot(train.y, CLASSES).float()
    follow = ProgressReporter(on_progress, label, lambda state: {"training loss": float(state.loss.nanmean())})
    training.train(networks, recipes, seeds, train.x, targets, callbacks=[follow])


def logits(networks: Sequence[nn.Module], x: Tensor, rows: int = 2000) -> Tensor:
    """What each network makes of x, in parts that fit into memory.  x: (n, 784) -> (networks, n, 10)."""
    return torch.cat([training.predict(networks, part) for part in x.split(rows)], 1)


class Steps:
    """Turns "done of so many" of a slow part into progress events, at most one a second."""

    def __init__(self, label: str, unit: str, on_progress: OnProgress) -> None:
        self.label, self.unit, self.on_progress, self.reported = label, unit, on_progress, 0.0

    def __call__(self, done: int, total: int) -> None:
        """Note how far it is."""
        now = time.perf_counter()
        if now - self.reported > 1 or done == total:
            self.reported = now
            self.on_progress(ProgressEvent(self.label, done, total, self.unit))
