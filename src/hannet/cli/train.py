"""The command that trains a classifier of images and saves it: `hannet train images`."""

import json
import math
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from ..vision import presets, row_training
from ..vision.presets import ON_ROWS, Model
from ..vision.row_training import Loss
from .console import exit_with_error, progress_bar

if TYPE_CHECKING:
    from torch import nn

    from ..data import Images
    from ..train.recipes import Recipe
    from ..vision.recipe import ImageRecipe

Augment = Literal["none", "crop", "flip", "auto"]
Precision = Literal["fp32", "bf16", "fp16"]

PARTS = ("config.json", "model.safetensors")
BESIDE = ("README.md", "report.json", "preprocessing.json", "curves.png", "curves.svg")
BATCH = 256
HELD_OUT = 12  # one in so many training images validates: 5,000 of MNIST's 60,000


class Parts(NamedTuple):
    """What trains, what validates, what tests."""

    training: "Images"
    held: "Images"
    test: "Images"


def images(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="A folder with a folder of pictures for each class; or mnist, cifar10, ...")
    ],
    model: Annotated[Model, typer.Option(help="What to train; mobilevits have Han-blocks.")] = "hannet",
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Pixels that a folder's pictures become.  [default: 64; 256 for mobilevit]"),
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="[default: 784; 1024 with --lipschitz; 512 channels of han-mixer]")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=0, help="Layers or blocks.  [default: 20; 4 with --lipschitz; 1 of fcnet; 16 of han-mixer]"),
    ] = None,
    mlp_blocks: Annotated[
        int | None, typer.Option(min=0, help="Mixer blocks before those of han-mixer.  [default: 0]")
    ] = None,
    lipschitz: Annotated[bool, typer.Option("--lipschitz", help="A hannet to certify: 1-Lipschitz outputs.")] = False,
    reflections: Annotated[
        int | None, typer.Option(min=1, help="In each layer of hannet.  [default: 1; 32 with --lipschitz]")
    ] = None,
    loss: Annotated[Loss | None, typer.Option(help="Of hannet and fcnet.  [default: cross-entropy]")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Cross entropy is of the outputs over it.  [default: 1]")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Of multi-margin and hkr.  [default: 1]")] = None,
    augment: Annotated[
        Augment | None,
        typer.Option(help="Random changes: crop; flip: and mirrored; auto: and more.  [default: flip; crop for mnist]"),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="First learning rate; it falls.  [default: 0.001; 0.003 with --lipschitz]")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="[default: 0; 0.1 for han-mixer, mobilevit]")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images a step.  [default: 256, or an eighth of fewer than 2048]")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 20,
    precision: Annotated[Precision | None, typer.Option(help="[default: fp32; bf16 on a GPU]")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of an average of the weights, such as 0.999.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Between two checkpoints.  [default: 10]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of start, batches and images held out.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the network.  [default: hannet-models/DATA-MODEL]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on with a training that was cut off.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the network that is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a classifier of images, measure it on images it has not seen, save it for `hannet predict` and others.

    One in twelve training images is held out to show the accuracy of every epoch; nothing is chosen by it. han-mixer and mobilevit
    keep checkpoints: cut off, by Ctrl-C or SIGTERM or a crash, the same command goes on.
    """
    shape = presets.Shape(width, depth, reflections, mlp_blocks, lipschitz)
    own = {"loss": loss, "temperature": temperature, "margin": margin, "augment": augment, "precision": precision}
    presets.require_own(model, {**shape._asdict(), **own, "ema": ema, "minutes": minutes})
    rate = lr if lr is not None else 3e-3 if lipschitz else 1e-3
    decay = weight_decay if weight_decay is not None else 0.0 if model in ON_ROWS else 0.1
    _require_numbers(rate, decay, ema, minutes)
    chosen = row_training.recipe(loss or "cross-entropy", temperature, margin, rate, decay, batch or BATCH)
    folder = out or Path("hannet-models", f"{_name(data)}-{model}")
    if folder.name in ("", ".."):  # then its neighbours are not named after it
        folder = folder.resolve()
    from ..storage import model_dir
    from ..train.distributed import DistributedContext

    processes = DistributedContext()
    hold = processes.alone
    context.with_resource(model_dir.reserve(folder, PARTS, BESIDE, force=force, hold=hold))
    if model in ON_ROWS and processes.count > 1:
        raise typer.BadParameter(f"{model} trains in one process, not in {processes.count}", param_hint="--model")
    parts = _parts(data, size, model, seed)
    arguments = presets.options(model, shape, parts.training)
    network = presets.build(model, arguments, seed)
    batch = _batch(batch, len(parts.training.y), processes.count)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if model in ON_ROWS:
        learned = _learn_rows(network, replace(chosen, batch=batch), epochs, seed, parts)
    else:
        augmentation = presets.augmentation(augment or ("crop" if data == "mnist" else "flip"), parts.training)
        settings = {"lr": rate, "weight_decay": decay, "batch": batch, "epochs": epochs, "augmentation": augmentation}
        recipe = presets.recipe(model, parts.training, {**settings, "ema": ema or 0.0, "precision": precision})
        if fresh and processes.first:
            shutil.rmtree(unfinished, ignore_errors=True)
        learned = _learn_images(network, recipe, seed, parts, unfinished, 10.0 if minutes is None else minutes)
        if not processes.first:
            return  # the first of several processes tells and saves
    told = _facts(data, {"model": type(network).__name__, **arguments}, network, parts, seed) | learned.told
    print(json.dumps({**told, "folder": str(folder)}, allow_nan=False) if as_json else _words(told), flush=True)
    _save(
        network, folder, {**learned.files, "report.json": (json.dumps(told, indent=1, allow_nan=False) + "\n").encode()}
    )
    if model not in ON_ROWS:
        shutil.rmtree(unfinished, ignore_errors=True)
    if not as_json:
        print(f"Saved in {folder}: the network, {', '.join([*learned.files, 'report.json'])}")
        name = shlex.quote(str(folder))
        print(f"Go on with: hannet {f'certify {name}' if lipschitz else f'predict {name} PICTURE.png'}")


def _name(data: str) -> str:
    from ..data import images as sets

    return data if data in sets.SETS or not Path(data).is_dir() else Path(data).resolve().name


def _batch(asked: int | None, images: int, processes: int) -> int:
    """Images a step: what was asked for, if that can be."""
    batch = asked or min(BATCH, max(1, images // 8))
    if batch > images:
        raise typer.BadParameter(f"only {images:,} images train", param_hint="--batch")
    if batch % processes:
        told = f"must be a multiple of {processes}, the number of processes, got {batch}"
        raise typer.BadParameter(told, param_hint="--batch")
    return batch


class Learned(NamedTuple):
    """What a training has to tell, and files to lie beside the network."""

    told: dict[str, Any]
    files: dict[str, bytes]


def _require_numbers(lr: float, weight_decay: float, ema: float | None, minutes: float | None) -> None:
    if not 0 < lr < math.inf:
        raise typer.BadParameter(f"must be above 0 and finite, got {lr}", param_hint="--lr")
    if not 0 <= weight_decay < math.inf:
        raise typer.BadParameter(f"must be at least 0 and finite, got {weight_decay}", param_hint="--weight-decay")
    if ema is not None and not 0 < ema < 1:
        raise typer.BadParameter(f"must be between 0 and 1, got {ema}", param_hint="--ema")
    if minutes is not None and not 0 <= minutes < math.inf:
        raise typer.BadParameter(f"must be at least 0 and finite, got {minutes}", param_hint="--minutes")


def _parts(data: str, size: int | None, model: Model, seed: int) -> Parts:
    """What trains, validates and tests, of a named set or of a folder of pictures."""
    import torch

    whole, test = _read(data, size, model)
    order = torch.randperm(len(whole.y), generator=torch.Generator().manual_seed(seed))
    held, rest = order.tensor_split([len(order) // HELD_OUT])
    if not len(held):
        raise typer.BadParameter(
            f"{data} has {len(whole.y)} training images, at least {HELD_OUT} are needed", param_hint="data"
        )
    training, validation = (replace(whole, x=whole.x[rows], y=whole.y[rows]) for rows in (rest, held))
    return Parts(training, validation, test)


def _read(data: str, size: int | None, model: Model) -> "tuple[Images, Images]":
    from ..data import images as sets
    from ..reporting.progress import ProgressEvent

    with progress_bar() as show:

        def watch(done: int, total: int) -> None:
            show(ProgressEvent("reading", done, total, "images"))

        if data not in sets.SETS and Path(data).is_dir():
            pixels = size or presets.PICTURE_SIZE.get(model, 64)
            training, test = (sets.folder(data, pixels, part, watch) for part in ("train", "test"))
            return training, test
        if data not in sets.SETS:
            known = ", ".join(sets.SETS)
            raise typer.BadParameter(f"{data!r} is neither a folder nor one of {known}", param_hint="data")
        if size:
            raise typer.BadParameter(f"the images of {data} have a size: leave it out", param_hint="--size")
        training, test = (sets.load(data, part, watch) for part in ("train", "test"))
        return training, test


def _learn_rows(network: "nn.Module", chosen: "Recipe", epochs: int, seed: int, parts: Parts) -> Learned:
    """Trains a network that takes rows of pixels."""
    from ..vision.preprocessing import FILE, Preprocessing

    began = time.perf_counter()
    try:
        with progress_bar() as show:
            told = row_training.learn(network, chosen, epochs, seed, parts.training, parts.held, show)
        told["seconds"] = round(time.perf_counter() - began, 3)
        told |= row_training.measure(network, parts.test)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)
    channels, size, _ = parts.training.x.shape[1:]
    seen = Preprocessing(channels, size, parts.training.classes, (0.0,) * channels, (1.0,) * channels, flat=True)
    return Learned(told, {FILE: seen.content()})


def _learn_images(
    network: "nn.Module", recipe: "ImageRecipe", seed: int, parts: Parts, unfinished: Path, minutes: float
) -> Learned:
    """Trains a network that takes images, from its checkpoint if there is one."""
    from ..reporting import figures
    from ..storage.provenance import describe_device
    from ..train.checkpoint import CheckpointError
    from ..vision import pipeline
    from ..vision.figures import plot_history
    from ..vision.preprocessing import FILE, Preprocessing, probabilities

    began = time.perf_counter()
    try:
        with progress_bar() as show:
            options: dict[str, Any] = {"held": parts.held, "checkpoint": unfinished, "minutes": minutes}
            history = pipeline.fit(network, parts.training, recipe, seed, on_progress=show, **options)
    except KeyboardInterrupt as interrupt:
        exit_with_error(f"interrupted; {interrupt.args[0] if interrupt.args else _kept_before(unfinished)}", 130)
    except CheckpointError as error:
        exit_with_error(f"{error}{' (--fresh does)' * str(error).endswith('to start over')}", 1)
    except pipeline.TrainingError as error:
        exit_with_error(f"{error}; nothing is saved", 1)
    channels, size, _ = parts.training.x.shape[1:]
    seen = Preprocessing(channels, size, parts.training.classes, recipe.mean, recipe.std, recipe.resize)
    trained_on = next(network.parameters()).device.type
    network.cpu()
    right = probabilities(network, seen, parts.test.x).argmax(1) == parts.test.y
    told: dict[str, Any] = {
        "recipe": asdict(recipe),
        "epochs": recipe.epochs,
        "seconds": round(time.perf_counter() - began, 3),
        "validation_accuracy": [1 - error for error in history.validation_error],
        "test_accuracy": float(right.double().mean()),
        "history": asdict(history),
        "device": describe_device(trained_on),
    }
    pictures = {
        f"curves.{form}": figures.figure_as_bytes(plot_history(told["history"]), form) for form in ("png", "svg")
    }
    return Learned(told, {FILE: seen.content(), **pictures})


def _kept_before(unfinished: Path) -> str:
    from ..train.checkpoint import path_in

    return f"the last checkpoint in {unfinished} is kept" if path_in(unfinished).exists() else "nothing is kept"


def _facts(data: str, kind: dict[str, Any], network: "nn.Module", parts: Parts, seed: int) -> dict[str, Any]:
    from ..storage.provenance import commit, describe_device, versions

    return {
        "data": data,
        "network": kind,
        "seed": seed,
        "images": {"train": len(parts.training.y), "validation": len(parts.held.y), "test": len(parts.test.y)},
        "classes": list(parts.training.classes),
        "notes": list(dict.fromkeys((*parts.training.notes, *parts.test.notes))),
        "parameters": sum(p.numel() for p in network.parameters()),
        "device": describe_device(),
        "versions": dict(versions()),
        "commit": commit(),
    }


def _words(told: Mapping[str, Any]) -> str:
    options = dict(told["network"])
    kind, images = options.pop("model"), told["images"]
    shown = ("width", "depth", "reflections", "channels", "mlp_blocks", "han_blocks", "size")
    sizes = ", ".join(f"{name.replace('_', ' ')} {options[name]}" for name in shown if name in options)
    certified = told.get("certified_accuracy", {}).items()
    lines = [
        f"{kind}{', lipschitz' * options.get('lipschitz', False)}, {sizes}: {told['parameters']:,} parameters",
        f"{images['train']:,} images of {told['data']}, {told['epochs']} epoch{'s' * (told['epochs'] > 1)}, {told['seconds']:.1f} s",
        f"validation accuracy         {told['validation_accuracy'][-1]:7.2%}  of {images['validation']:,} images",
        f"test accuracy               {told['test_accuracy']:7.2%}  of {images['test']:,}",
        *(
            f"{f'certified accuracy at {radius}':<28}{share:7.2%}  in float64; hannet certify tells more"
            for radius, share in certified
        ),
        *(f"Note: {note}" for note in told["notes"]),
    ]
    return "\n".join(lines)


def _save(network: "nn.Module", folder: Path, files: Mapping[str, bytes]) -> None:
    from safetensors import SafetensorError

    from ..storage import model_dir
    from ..storage.files import StoreError, write_atomic

    try:
        with model_dir.replace_folder(folder) as aside:
            network.save_pretrained(aside)  # type: ignore[operator]
            (aside / "README.md").unlink(missing_ok=True)  # a card that says it was pushed to the Hub
            for name, content in files.items():
                write_atomic(aside / name, content)
    except SafetensorError as error:
        raise StoreError(f"{folder}: {error}") from error
