"""The training of `hannet train images` for networks that take an image as a row of pixels: HanNet and FCNet."""

import copy
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import typer

from ..cli.console import exit_with_error

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data import Images
    from ..reporting.progress import OnProgress
    from ..train.recipes import Recipe

Loss = Literal["cross-entropy", "multi-margin", "hkr"]

RADII = (0.5, 1.58)
AT_ONCE = 2000  # images that a network sees at once where it does not train: it bounds memory

_COMMON = ("optimizer", "lr", "schedule", "weight_decay", "batch", "iterations", "loss")
SETTINGS = {  # of a recipe, what there is to tell
    "cross_entropy": (*_COMMON, "temperature"),
    "multi_margin": (*_COMMON, "margin"),
    "hkr": (*_COMMON, "margin", "alpha"),
}


class Labelled(NamedTuple):
    """x: (n, pixels), float32 in [0, 1]; y: (n,), int64."""

    x: "Tensor"
    y: "Tensor"


def rows(images: "Images") -> Labelled:
    """Images as rows of pixels."""
    return Labelled(images.x.flatten(1).float() / 255, images.y)


def recipe(
    loss: Loss, temperature: float | None, margin: float | None, lr: float, weight_decay: float, batch: int
) -> "Recipe":
    """How to train, but for how long. Refuses settings that the loss has not."""
    from ..train.recipes import Recipe

    own, foreign = ("--temperature", "--margin") if loss == "cross-entropy" else ("--margin", "--temperature")
    given = {"--temperature": temperature, "--margin": margin}
    if given[foreign] is not None:
        raise typer.BadParameter(f"the loss {loss} has no such setting: leave it out", param_hint=foreign)
    constant = 1.0 if given[own] is None else given[own]
    if constant is None or not 0 < constant < math.inf:
        raise typer.BadParameter(f"must be above 0 and finite, got {constant}", param_hint=own)
    shape = {own.removeprefix("--"): constant}
    return Recipe(
        lr=lr,
        weight_decay=weight_decay,
        schedule="cosine",
        optimizer="adam",
        batch=batch,
        loss=loss.replace("-", "_"),
        **shape,  # type: ignore[arg-type]
    )


def learn(
    network: "nn.Module",
    chosen: "Recipe",
    epochs: int,
    seed: int,
    training: "Images",
    held: "Images",
    show: "OnProgress",
) -> dict[str, Any]:
    """Trains the network, in place. Returns the recipe and the validation accuracy after every epoch."""
    from dataclasses import replace

    chosen = replace(chosen, iterations=epochs * (len(training.y) // chosen.batch))
    validation = _fit(network, chosen, seed, rows(training), rows(held), show)
    return {
        "recipe": {name: getattr(chosen, name) for name in SETTINGS[chosen.loss]},
        "epochs": epochs,
        "validation_accuracy": validation,
    }


def _fit(
    network: "nn.Module",
    chosen: "Recipe",
    seed: int,
    training: Labelled,
    held: Labelled,
    show: "OnProgress",
) -> list[float]:
    import torch
    import torch.nn.functional as F

    from ..reporting.progress import ProgressEvent
    from ..train import trainer as loop

    validation: list[float] = []
    with torch.no_grad():
        classes = network(training.x[:1]).shape[1]

    def on_epoch(epoch: loop.Epoch) -> None:
        logits = torch.cat([epoch.predict(part)[0] for part in held.x.split(AT_ONCE)])
        validation.append(_accuracy(logits, held.y))

    def on_progress(now: loop.Progress) -> None:
        metrics = {"loss": float(now.loss)}
        if validation:
            metrics["validation accuracy"] = validation[-1]
        show(ProgressEvent(type(network).__name__, now.step, now.steps, "it", metrics))

    target = F.one_hot(training.y, classes).float()
    loop.train([network], [chosen], [seed], training.x, target, on_epoch=on_epoch, on_progress=on_progress)
    return validation


def _accuracy(logits: "Tensor", y: "Tensor") -> float:
    return float((logits.argmax(1) == y).double().mean())


def measure(network: "nn.Module", images: "Images") -> dict[str, Any]:
    """Accuracy on the test images and, of a network to certify, certified accuracy in float64."""
    import torch

    from ..certify import certified_accuracy
    from ..layers.affine import UnitLinear

    test = rows(images)
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in test.x.split(AT_ONCE)])
    if not logits.isfinite().all():
        exit_with_error("the training diverged: a smaller --lr may help; nothing is saved", 1)
    told: dict[str, Any] = {"test_accuracy": _accuracy(logits, test.y)}
    if any(isinstance(module, UnitLinear) for module in network.modules()):
        shares = certified_accuracy(copy.deepcopy(network).double(), test.x.double(), test.y, RADII)
        told["certified_accuracy"] = {f"{radius:g}": share for radius, share in zip(RADII, shares, strict=True)}
    return told
