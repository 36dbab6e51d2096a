"""`hannet train images`: train a classifier of images and save it."""

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..data import DataError
from ..reporting.text import printable
from ..vision import SettingError
from ..vision.presets import LOSS_SETTINGS, PRESETS, SETTINGS, batch_size
from .console import command_line, exit_with_error, say
from .options import SkipBroken, complete_images
from .progress_bar import progress_bar

if TYPE_CHECKING:
    from ..vision.classifier import TrainedClassifier
    from ..vision.splits import DataSplits, ReadOptions

    ModelName = str
    LossName = str
else:  # the names in the tables, which typer offers and mypy cannot compute
    ModelName, LossName = Literal[tuple(PRESETS)], Literal[tuple(LOSS_SETTINGS)]
Option = typer.Option
Data = Annotated[
    str,
    typer.Argument(
        help="A folder with a folder of images for each class; or mnist, cifar10, ...", autocompletion=complete_images
    ),
]
Model = Annotated[ModelName, Option(help="What to train; mobilevits have Han-blocks.")]
Size = Annotated[
    int | None, Option(min=8, help="Pixels that a folder's images become.  [default: 64; 256 for mobilevit]")
]
Width = Annotated[int | None, Option(min=1, help="[default: 784; 1024 with --lipschitz; 512 channels of han-mixer]")]
Depth = Annotated[
    int | None, Option(min=0, help="Layers or blocks.  [default: 20; 4 with --lipschitz; 1 of fcnet; 16 of han-mixer]")
]
MlpBlocks = Annotated[int | None, Option(min=0, help="Mixer blocks before those of han-mixer.  [default: 0]")]
Lipschitz = Annotated[bool, Option("--lipschitz", help="A hannet to certify: 1-Lipschitz outputs.")]
Reflections = Annotated[
    int | None, Option(min=1, help="Reflections in each layer of hannet.  [default: 1; 32 with --lipschitz]")
]
Loss = Annotated[LossName | None, Option(help="What training minimizes.  [default: cross-entropy]")]
Temperature = Annotated[float | None, Option(help="What cross entropy divides the outputs by.  [default: 1]")]
Margin = Annotated[float | None, Option(help="Margin of multi-margin and hkr.  [default: 1]")]
Augment = Annotated[
    Literal["none", "crop", "flip", "auto"] | None,
    Option(help="Random changes: crop; flip: and mirrored; auto: and more.  [default: flip; crop for mnist]"),
]
LearningRate = Annotated[
    float | None, Option(help="First learning rate; it falls.  [default: 0.001; 0.003 with --lipschitz]")
]
WeightDecay = Annotated[float | None, Option(help="[default: 0; 0.1 for han-mixer, mobilevit]")]
Batch = Annotated[int | None, Option(min=1, help="Images a step.  [default: 256, or an eighth of fewer than 2048]")]
Epochs = Annotated[int, Option(min=1, help="Passes over the training images.")]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16"] | None, Option(help="[default: fp32; bf16 for han-mixer and mobilevit on a GPU]")
]
Ema = Annotated[float | None, Option(help="Decay of an average of the weights, such as 0.999.")]
Minutes = Annotated[float | None, Option(help="Minutes between two checkpoints.  [default: 10]")]
Seed = Annotated[int, Option(min=0, max=2**32 - 1, help="Seed of weights, batches and images held out.")]
Out = Annotated[Path | None, Option(help="Folder for the network.  [default: hannet-models/DATA-MODEL]")]
FollowLinks = Annotated[
    bool, Option("--follow-links", help="Follow links that lead out of the folder of images; else they are an error.")
]
Fresh = Annotated[bool, Option("--fresh", help="Start over, instead of resuming a training that was interrupted.")]
Force = Annotated[bool, Option("--force", help="Replace the network in the folder.")]
AsJson = Annotated[bool, Option("--json", help="Print the report as JSON.")]


def images(
    context: typer.Context,
    data: Data,
    model: Model = "hannet",
    size: Size = None,
    width: Width = None,
    depth: Depth = None,
    mlp_blocks: MlpBlocks = None,
    lipschitz: Lipschitz = False,
    reflections: Reflections = None,
    loss: Loss = None,
    temperature: Temperature = None,
    margin: Margin = None,
    augment: Augment = None,
    lr: LearningRate = None,
    weight_decay: WeightDecay = None,
    batch: Batch = None,
    epochs: Epochs = 20,
    precision: Precision = None,
    ema: Ema = None,
    minutes: Minutes = None,
    follow_links: FollowLinks = False,
    skip_broken: SkipBroken = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier of images, measure it on images it has not seen, save it for `hannet predict` and others.

    One in twelve training images is held out to show the accuracy of every epoch; nothing is chosen by it. Checkpoints are kept: the
    same command resumes after an interruption, by Ctrl-C or SIGTERM or a crash.
    """
    from ..storage import model_dir
    from ..train.distributed import DistributedContext
    from ..vision import classifier
    from ..vision.splits import ReadOptions, dataset_name

    preset = PRESETS[model]
    settings = preset.resolve({name: given for name, given in context.params.items() if name in SETTINGS})
    folder = out or Path("hannet-models", f"{dataset_name(data)}-{model}")
    folder = folder.resolve() if folder.name in ("", "..") else folder  # then its neighbours are not named after it
    processes = DistributedContext()
    files = classifier.MODEL_FILES, classifier.OTHER_FILES
    context.with_resource(model_dir.reserve(folder, *files, force=force, hold=processes.exclusive_lock))
    if preset.flat and processes.count > 1:
        raise SettingError(f"{model} trains in one process, not in {processes.count}", "model")
    reading = ReadOptions(size, preset.size, follow_links, skip_broken or 0.0, preset.bytes_per_value)
    splits = _load_splits(data, seed, reading, folder.with_name(f"{folder.name}-broken.txt"), processes.first)
    settings["batch"] = batch_size(batch, len(splits.training.y), processes.count)
    checkpoint = folder.with_name(f".{folder.name}.unfinished")
    train = partial(classifier.train, preset, settings, splits, seed, fresh=fresh and processes.first)
    trained = _train(train, checkpoint)
    if processes.first:  # of several processes the first reports and saves
        _report_and_save(trained, folder, checkpoint, as_json=as_json)


def _load_splits(data: str, seed: int, options: "ReadOptions", listed: Path, first: bool) -> "DataSplits":
    """The images; broken ones are listed in a file, by the first of several processes."""
    from ..data import BrokenPicturesError
    from ..storage.files import write_atomic
    from ..vision.splits import load_splits

    def write(faults: Sequence[str]) -> None:
        if first:
            write_atomic(listed, "".join(f"{printable(fault)}\n" for fault in faults).encode())

    try:
        with progress_bar() as on_progress:
            splits = load_splits(data, seed, options, on_progress)
    except BrokenPicturesError as error:
        if len(error.faults) == 1:
            raise
        write(error.faults)
        advice = "" if options.skip_broken else ", --skip-broken leaves them out"
        raise DataError(f"{error}; all are listed in {listed}{advice}") from error
    if splits.training.broken:
        write(splits.training.broken)
    return splits


def _train(train: "Callable[..., TrainedClassifier]", checkpoint: Path) -> "TrainedClassifier":
    from ..train.checkpoint import path_in
    from ..train.errors import CheckpointError, TrainingError

    try:
        with progress_bar() as show:
            return train(checkpoint=checkpoint, on_progress=show)
    except KeyboardInterrupt as interrupt:
        kept = path_in(checkpoint).exists()
        outcome = f"the last checkpoint in {checkpoint} is kept" if kept else "nothing is saved"
        exit_with_error(f"interrupted; {interrupt.args[0] if interrupt.args else outcome}", 130)
    except CheckpointError as error:
        exit_with_error(f"{error}{' (--fresh does)' * error.can_start_over}", 1)
    except TrainingError as error:
        shutil.rmtree(checkpoint, ignore_errors=True)  # the state itself is gone already, its folder is left
        exit_with_error(f"{error}; nothing is saved", 1)


def _report_and_save(trained: "TrainedClassifier", folder: Path, checkpoint: Path, *, as_json: bool) -> None:
    trained = replace(trained, report={**trained.report, "command": command_line()})
    report = {**trained.report, "folder": str(folder)}
    say(json.dumps(report, allow_nan=False) if as_json else _summary(report))  # in case the disk is full
    saved = trained.save(folder)
    shutil.rmtree(checkpoint, ignore_errors=True)
    if not as_json:
        say(f"Saved in {folder}: the network, {', '.join(saved)}")
        name, certifiable = shlex.quote(str(folder)), "certified_accuracy" in trained.report
        say(f"Next: hannet {f'certify {name}' if certifiable else f'predict {name} IMAGE.png'}")


def _summary(report: Mapping[str, Any]) -> str:
    options, images = report["network"], report["images"]
    shown = ("width", "depth", "reflections", "channels", "mlp_blocks", "han_blocks", "size")
    sizes = ", ".join(f"{name.replace('_', ' ')} {options[name]}" for name in shown if name in options)
    kind = f"{options['model']}{', lipschitz' * options.get('lipschitz', False)}, {sizes}"
    epochs = f"{report['epochs']} epoch{'s' * (report['epochs'] > 1)}"
    lines = [
        f"{kind}: {report['parameters']:,} parameters",
        f"{images['train']:,} images of {report['data']}, {epochs}, {report['seconds']:.1f} s",
        f"validation accuracy         {report['validation_accuracy'][-1]:7.2%}  of {images['validation']:,} images",
        f"test accuracy               {report['test_accuracy']:7.2%}  of {images['test']:,}",
    ]
    for radius, share in report.get("certified_accuracy", {}).items():
        lines.append(f"{f'certified accuracy at {radius}':<28}{share:7.2%}  in float64; more with hannet certify")
    return "\n".join([*lines, *(f"Note: {note}" for note in report["notes"])])
