"""Rows of Table 12 on CIFAR-10: how long a step of each takes, then as many epochs as fit, the same for all."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hannet.data import DataError, Images, images
from hannet.experiments.paper import table12, table14
from hannet.models.registry import build_model
from hannet.vision import pipeline
from hannet.vision.recipe import ImageRecipe

from . import bare, packed
from .keeping import Keeper

TRAINED = ("stem", "mlp2", "han16", "mlp1-han16")
_TIMED = 30, 3  # steps of an epoch, and epochs, of which the median counts
_LEAST, _START = 15.0, 3.0  # seconds to begin a training with, and that its beginning takes
_SMALL = {"image_size": 8, "num_classes": 10, "channels": [4, 4, 8, 8, 8], "kind": "HanMixer"}  # of a rehearsal


def load(name: str, part: images.Part, folder: Path, rehearsal: bool) -> Images:
    """CIFAR from its packed parts in the folder, if there are any, else from where hannet finds it. Raises DataError."""
    source = images.SETS[name]
    if rehearsal:
        x, y = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8), torch.arange(2)
        return Images(x, y, source.classes)
    if name == "cifar10" and (parts := packed.find(folder)):
        x, y = packed.unpack(parts, part)
        return Images(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), source.classes)
    given = os.environ.get("HANNET_DATA", "")
    if not given or not all(Path(given, file.folder, file.name).exists() for file in source.files):
        raise DataError(f"{name} is neither packed in {folder} nor in the folder that HANNET_DATA names")
    return images.load(name, part)


def steps(keeper: Keeper, folder: Path) -> None:
    """Images a second of every row of Table 12, and the share of a step in which it waits for its batch."""
    for part in ("stem", "han16") if keeper.rehearsal else table12.Experiment.networks:
        keeper.tell(part, lambda part=part: _timed(part, keeper.rehearsal), needs=4)


def _timed(part: str, rehearsal: bool) -> dict[str, float]:
    """On images that are drawn: how they look costs no time."""
    recipe, (count, epochs) = _recipe(1, rehearsal), (1, 1) if rehearsal else _TIMED
    size = 8 if rehearsal else 32
    x = torch.randint(0, 256, (count * recipe.batch, 3, size, size), dtype=torch.uint8)
    drawn = Images(x, torch.randint(0, 10, (len(x),)), images.SETS["cifar10"].classes)
    network = build_model(seed=0, **_options(part, rehearsal))
    return pipeline.train_classifier(network, drawn, replace(recipe, epochs=epochs), 0).last()


def train(keeper: Keeper, folder: Path, more: int = 1) -> None:
    """The rows, each for as many epochs as there is time for, one after another; more: times as many."""
    rates = {part: keeper.find(part, "steps") for part in TRAINED}
    if any(record is None for record in rates.values()) and not keeper.rehearsal:
        keeper.fail("epochs", "the stage `steps` has not timed all rows", 0.0)
        return
    training, test = (load("cifar10", part, folder, keeper.rehearsal) for part in ("train", "test"))
    each = sum(1.2 * len(training.y) / record.metrics["images_per_second"] + 0.5 for record in rates.values() if record)
    fit = 1 if keeper.rehearsal else max(1, int((keeper.left - _START * len(TRAINED)) / each))
    config: dict[str, Any] = {"images": len(training.y), "times": more}
    planned = keeper.tell("epochs", lambda: {"epochs": fit}, **config)  # the same when called again
    epochs = int(planned["epochs"]) if planned else fit
    for part in TRAINED[2:] if keeper.rehearsal else TRAINED:
        _train(
            keeper, part, _options(part, keeper.rehearsal), _recipe(epochs, keeper.rehearsal), training, test, **config
        )


def more(keeper: Keeper, folder: Path) -> None:
    """The other rows of Table 12 on CIFAR-10, the rows above on CIFAR-100, and MobileViT-XXS at 128 and 256 pixels, an epoch each."""
    recipe = _recipe(1, keeper.rehearsal)
    for size in (64,) if keeper.rehearsal else (128, 256):
        for part in ("xxs-han",) if keeper.rehearsal else ("xxs-mlp", "xxs-han"):
            options = table14.Experiment(seeds=(0,), dataset="cifar10").options(part)
            sized = replace(recipe, batch=recipe.batch if keeper.rehearsal else 128, resize=size)
            _one(keeper, folder, "cifar10", f"{part} at {size}", options, sized)
    experiment = table12.Experiment(seeds=(0,), dataset="cifar100")
    for part in TRAINED[:1] if keeper.rehearsal else TRAINED:
        options = _options(part, True) | {"num_classes": 100} if keeper.rehearsal else experiment.options(part)
        _one(keeper, folder, "cifar100", part, options, recipe)


def _one(keeper: Keeper, folder: Path, name: str, piece: str, options: Mapping[str, Any], recipe: ImageRecipe) -> None:
    try:
        training, test = (load(name, part, folder, keeper.rehearsal) for part in ("train", "test"))
    except DataError as error:
        keeper.fail(piece, str(error), 0.0, data=name)
        return
    _train(keeper, piece, options, recipe, training, test, data=name)


def _train(
    keeper: Keeper,
    part: str,
    options: Mapping[str, Any],
    recipe: ImageRecipe,
    training: Images,
    test: Images,
    **config: object,
) -> None:
    """Trains and tests a network; from its checkpoint, if an earlier call was cut off and safetensors is there to keep one."""
    checkpoint = keeper.out / "unfinished" / part.replace(" ", "-") if bare.is_there("safetensors") else None

    def work() -> tuple[Mapping[str, float], Mapping[str, Sequence[float]]]:
        network = build_model(seed=0, **options)
        found = {"validation": test, "checkpoint": checkpoint, "minutes": 0.5}
        history = pipeline.train_classifier(network, training, recipe, 0, **found)
        if checkpoint:
            shutil.rmtree(checkpoint)
        return history.last() | {"parameters": sum(p.numel() for p in network.parameters())}, asdict(history)

    needs = 0.0 if keeper.rehearsal else _LEAST
    keeper.tell_with_curves(part, work, needs, recipe=recipe.differences(), network=dict(options), **config)


def _options(part: str, rehearsal: bool) -> dict[str, Any]:
    whole = table12.Experiment(seeds=(0,)).options(part)
    return {**whole, **_SMALL, "han_blocks": min(1, whole["han_blocks"])} if rehearsal else whole


def _recipe(epochs: int, rehearsal: bool) -> ImageRecipe:
    """Table 11's, its schedule compressed to so many epochs, in bfloat16."""
    recipe = replace(table12.Experiment(seeds=(0,)).protocol(), epochs=epochs, precision="bf16")
    small = replace(recipe.augmentation, padding=1, cutout=4)
    return replace(recipe, batch=2, augmentation=small) if rehearsal else recipe
