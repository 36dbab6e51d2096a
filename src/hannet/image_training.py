"""The command that trains a classifier of images and saves it: `hannet train images`."""

import copy
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from .console import display, stop

if TYPE_CHECKING:
    from torch import Tensor

    from .agenda import Progress
    from .data.images import Images, ImageSource
    from .models import FCNet, HanNet
    from .recipes import Recipe

Model = Literal["hannet", "fcnet"]
Loss = Literal["cross-entropy", "multi-margin", "hkr"]

PARTS = ("config.json", "model.safetensors")
BESIDE = ("README.md", "report.json")
HELD_OUT = 12  # one in so many training images validates: 5,000 of MNIST's 60,000
RADII = (0.5, 1.58)
AT_ONCE = 2000  # images that a network sees at once where it does not train: it bounds memory

_COMMON = ("optimizer", "lr", "schedule", "weight_decay", "batch", "iterations", "loss")
SETTINGS = {  # of a recipe, what there is to tell
    "cross_entropy": (*_COMMON, "temperature"),
    "multi_margin": (*_COMMON, "margin"),
    "hkr": (*_COMMON, "margin", "alpha"),
}

train = typer.Typer(
    help="Train a network and save it as a folder.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Labelled(NamedTuple):
    """x: (n, pixels), float32 in [0, 1]; y: (n,), int64."""

    x: "Tensor"
    y: "Tensor"


@train.command("images", epilog="Example: hannet train images mnist --model hannet --lipschitz --epochs 20")
def images(
    name: Annotated[str, typer.Argument(help="The data: mnist.")],
    model: Annotated[Model, typer.Option(help="HanNet, or the fully connected net with ReLU.")] = "hannet",
    lipschitz: Annotated[bool, typer.Option("--lipschitz", help="A HanNet to certify: 1-Lipschitz outputs.")] = False,
    width: Annotated[
        int | None, typer.Option(min=1, help="Of the hidden layers.  [default: 784; 1024 with --lipschitz]")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Hidden layers.  [default: 20; 4 with --lipschitz; 1 of fcnet]")
    ] = None,
    reflections: Annotated[
        int | None, typer.Option(min=1, help="In each Han-layer.  [default: 1; 32 with --lipschitz]")
    ] = None,
    loss: Annotated[Loss, typer.Option(help="What training lowers.")] = "cross-entropy",
    temperature: Annotated[
        float | None, typer.Option(help="Cross entropy is of the outputs over it.  [default: 1]")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Of multi-margin and hkr.  [default: 1]")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Of Adam; falls to 0 as a cosine.  [default: 0.001; 0.003 with --lipschitz]")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Of Adam, as part of the gradient.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of start, batches and images held out.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the network.  [default: hannet-models/NAME-MODEL]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the network that is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a classifier of images; measure it on images it has not seen; save it for `hannet attack` and `hannet certify`.

    One in twelve training images is held out to show the accuracy of every epoch; nothing is chosen by it.
    """
    source = _source(name)
    options = _options(model, lipschitz=lipschitz, width=width, depth=depth, reflections=reflections)
    rate = lr if lr is not None else 3e-3 if lipschitz else 1e-3
    recipe = _recipe(loss, temperature, margin, rate, weight_decay, batch)
    folder = out or Path("hannet-models", f"{name}-{model}")
    _require_free(folder, force=force)
    network = _build(model, source, options, seed)
    told = {"data": name, "network": {"model": type(network).__name__, **options}, "seed": seed}
    told |= _learn(network, recipe, epochs, seed, name)
    report = json.dumps(told, indent=1, allow_nan=False) + "\n"
    print(json.dumps({**told, "folder": str(folder)}, allow_nan=False) if as_json else _words(told), flush=True)
    _save(network, folder, report)
    if not as_json:
        print(f"Saved in {folder}: the network, report.json")
        follow = "certify" if lipschitz else "attack"
        print(f"Go on with: hannet {follow} {shlex.quote(str(folder))}")


def _source(name: str) -> "ImageSource":
    from .data.images import SETS

    if name not in SETS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(SETS)}", param_hint="name")
    return SETS[name]


def _options(
    model: Model, *, lipschitz: bool, width: int | None, depth: int | None, reflections: int | None
) -> dict[str, Any]:
    """Of the network: what was asked for, else the defaults."""
    if model == "fcnet":
        for option, given in {"--lipschitz": lipschitz, "--reflections": reflections}.items():
            if given:
                raise typer.BadParameter("fcnet has no such setting: leave it out", param_hint=option)
        return {"width": width or 784, "depth": depth or 1}
    shape = (1024, 4, 32) if lipschitz else (784, 20, 1)
    asked = dict(zip(("width", "depth", "reflections"), (width, depth, reflections), strict=True))
    sizes = {name: value or default for (name, value), default in zip(asked.items(), shape, strict=True)}
    return {**sizes, "lipschitz": lipschitz}


def _recipe(
    loss: Loss, temperature: float | None, margin: float | None, lr: float, weight_decay: float, batch: int
) -> "Recipe":
    from .recipes import Recipe

    own, foreign = ("--temperature", "--margin") if loss == "cross-entropy" else ("--margin", "--temperature")
    given = {"--temperature": temperature, "--margin": margin}
    if given[foreign] is not None:
        raise typer.BadParameter(f"the loss {loss} has no such setting: leave it out", param_hint=foreign)
    constant = 1.0 if given[own] is None else given[own]
    for option, value in {own: constant, "--lr": lr}.items():
        if value is None or not 0 < value < math.inf:
            raise typer.BadParameter(f"must be above 0 and finite, got {value}", param_hint=option)
    if not 0 <= weight_decay < math.inf:
        raise typer.BadParameter(f"must be at least 0 and finite, got {weight_decay}", param_hint="--weight-decay")
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


def _require_free(folder: Path, *, force: bool) -> None:
    from . import folders
    from .runs import StoreError

    try:
        folders.require_free(folder, PARTS, BESIDE, force=force)
    except StoreError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error


def _build(model: Model, source: "ImageSource", options: Mapping[str, Any], seed: int) -> "HanNet | FCNet":
    import torch

    from .models import FCNet, HanNet

    kind = HanNet if model == "hannet" else FCNet
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kind(math.prod(source.size), len(source.classes), **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except RuntimeError as error:  # the allocator's
        raise typer.BadParameter("a network of this width and depth does not fit into memory") from error


def _learn(network: "HanNet | FCNet", recipe: "Recipe", epochs: int, seed: int, name: str) -> dict[str, Any]:
    """Trains the network, in place. Returns how that went, and how well it does."""
    from dataclasses import replace

    from .runs import commit, device, versions

    training, held, test = _parts(name, seed)
    if recipe.batch > len(training.y):
        raise typer.BadParameter(f"only {len(training.y):,} images train", param_hint="--batch")
    recipe = replace(recipe, iterations=epochs * (len(training.y) // recipe.batch))
    began = time.perf_counter()
    try:
        with display() as show:
            validation = _fit(network, recipe, seed, training, held, show)
        seconds = time.perf_counter() - began
        accuracies = _measure(network, test)
    except KeyboardInterrupt:
        stop("interrupted; nothing is saved", 130)
    return {
        "images": {"train": len(training.y), "validation": len(held.y), "test": len(test.y)},
        "parameters": sum(p.numel() for p in network.parameters()),
        "recipe": {name: getattr(recipe, name) for name in SETTINGS[recipe.loss]},
        "epochs": epochs,
        "seconds": round(seconds, 3),
        "validation_accuracy": validation,
        **accuracies,
        "device": device(),
        "versions": dict(versions()),
        "commit": commit(),
    }


def _parts(name: str, seed: int) -> tuple[Labelled, Labelled, Labelled]:
    """What trains, what validates, what tests."""
    import torch

    whole, test = _read(name, "train"), _read(name, "test")
    order = torch.randperm(len(whole.y), generator=torch.Generator().manual_seed(seed))
    held, rest = order.tensor_split([len(order) // HELD_OUT])
    return Labelled(whole.x[rest], whole.y[rest]), Labelled(whole.x[held], whole.y[held]), test


def _read(name: str, part: Literal["train", "test"]) -> Labelled:
    from .data import images as sets

    readers: dict[str, Callable[[Literal["train", "test"]], Images]] = {"mnist": sets.mnist}
    found = readers[name](part)
    return Labelled(found.x.flatten(1).float() / 255, found.y)


def _fit(
    network: "HanNet | FCNet",
    recipe: "Recipe",
    seed: int,
    training: Labelled,
    held: Labelled,
    show: "Callable[[Progress], None]",
) -> list[float]:
    """Trains the network, in place. Returns the validation accuracy after every epoch."""
    import torch
    import torch.nn.functional as F

    from . import agenda
    from . import train as loop
    from .experiments import Status

    validation: list[float] = []
    with torch.no_grad():
        classes = network(training.x[:1]).shape[1]
    epochs = recipe.iterations // (len(training.y) // recipe.batch)

    def on_epoch(epoch: loop.Epoch) -> None:
        logits = torch.cat([epoch.predict(part)[0] for part in held.x.split(AT_ONCE)])
        validation.append(_accuracy(logits, held.y))

    def on_progress(now: loop.Progress) -> None:
        rate = now.step / max(now.seconds, 1e-9)
        reached = "".join(f", validation {accuracy:.2%}" for accuracy in validation[-1:])
        epoch = min(len(validation) + 1, epochs)
        status = Status(type(network).__name__, now.step, now.steps, rate, f"loss {float(now.loss):.3g}{reached}")
        show(agenda.Progress(epoch, epochs, now.step / now.steps, (now.steps - now.step) / rate, status))

    target = F.one_hot(training.y, classes).float()
    loop.train([network], [recipe], [seed], training.x, target, on_epoch=on_epoch, on_progress=on_progress)
    return validation


def _accuracy(logits: "Tensor", y: "Tensor") -> float:
    return float((logits.argmax(1) == y).double().mean())


def _measure(network: "HanNet | FCNet", test: Labelled) -> dict[str, Any]:
    """Accuracy on the test images and, of a network to certify, certified accuracy in float64."""
    import torch

    from .certify import certified_accuracy
    from .layers import UnitLinear

    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in test.x.split(AT_ONCE)])
    if not logits.isfinite().all():
        stop("the training diverged: a smaller --lr may help; nothing is saved", 1)
    told: dict[str, Any] = {"test_accuracy": _accuracy(logits, test.y)}
    if isinstance(network.layers[-1], UnitLinear):
        shares = certified_accuracy(copy.deepcopy(network).double(), test.x.double(), test.y, RADII)
        told["certified_accuracy"] = {f"{radius:g}": share for radius, share in zip(RADII, shares, strict=True)}
    return told


def _words(told: Mapping[str, Any]) -> str:
    options = dict(told["network"])
    kind, images = options.pop("model"), told["images"]
    sizes = ", ".join(f"{name} {value}" for name, value in options.items() if name != "lipschitz")
    certified = told.get("certified_accuracy", {}).items()
    lines = [
        f"{kind}{', lipschitz' * options.get('lipschitz', False)}, {sizes}: {told['parameters']:,} parameters",
        f"{images['train']:,} images of {told['data']}, {told['epochs']} epoch{'s' * (told['epochs'] > 1)}, {told['seconds']:.1f} s",
        f"validation accuracy         {told['validation_accuracy'][-1]:7.2%}  of {images['validation']:,} images",
        f"test accuracy               {told['test_accuracy']:7.2%}  of {images['test']:,}",
        *(f"{f'certified accuracy at {radius}':<28}{share:7.2%}" for radius, share in certified),
    ]
    return "\n".join(lines)


def _save(network: "HanNet | FCNet", folder: Path, report: str) -> None:
    from safetensors import SafetensorError

    from . import folders
    from .runs import StoreError, write

    try:
        with folders.written(folder) as aside:
            network.save_pretrained(aside)
            (aside / "README.md").unlink(missing_ok=True)  # a card that says it was pushed to the Hub
            write(aside / "report.json", report.encode())
    except SafetensorError as error:
        raise StoreError(f"{folder}: {error}") from error
