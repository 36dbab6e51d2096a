"""The training of classifiers of images (sections 5.3 and 5.4), and how well they do on images that test."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..certify import certified_accuracy
from ..data import Images
from ..layers.affine import UnitLinear
from ..reporting.progress import OnProgress
from ..train import trainer
from ..train.callbacks import Callback, ProgressReporter, TrainingState
from ..train.checkpoint import discard_if_diverged, open_checkpoint
from ..train.distributed import DistributedContext, SingleProcess, joint_statistics
from ..train.errors import TrainingError
from ..train.module_backend import ModuleBackend
from ..train.recipe import Recipe
from .loader import Batches
from .preprocessing import EVALUATION_BATCH, Preprocessing, logits
from .recipe import ImageRecipe

_FLAT_EVALUATION_BATCH = 2000  # rows of pixels in one forward pass: it bounds memory
RADII = (0.5, 1.58)  # l2 distances for which test images are certified
MAX_CONFUSION = 100  # classes, of whose confusions a report holds the square
_Parts = Callable[[], Iterator[tuple[Tensor, Tensor]]]  # inputs and classes, a part at a time


@dataclass
class History:
    """What was measured after every epoch. waiting: the share of a step's time in which it waits for its batch."""

    train_loss: list[float] = field(default_factory=list)
    train_error: list[float] = field(default_factory=list)
    validation_error: list[float] = field(default_factory=list)
    validation_top5_error: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)

    def last(self) -> dict[str, float]:
        """The values of the last epoch; for speeds the median over all epochs."""
        typical = ("images_per_second", "waiting")
        return {
            name: median(values) if name in typical else values[-1] for name, values in asdict(self).items() if values
        }


def train_classifier(
    model: nn.Module,
    training: Images,
    recipe: Recipe,
    seed: int,
    *,
    flat: bool = False,
    validation: Images | None = None,
    checkpoint: Path | None = None,
    minutes: float = 10.0,
    on_progress: OnProgress | None = None,
) -> History:
    """Trains a classifier of images in place, and leaves it in eval mode.

    Images train on a GPU if there is one, shared by all processes that `torchrun` or `accelerate launch` started; only the first
    of them writes and reports, and all end with the same weights.

    Args:
        model: Maps images (n, channels, h, w), float32, to logits (n, classes); with `flat`, rows of pixels (n, pixels) in [0, 1].
        training: The images to train on.
        recipe: An ImageRecipe, or with `flat` a Recipe.
        seed: Fixes the order of the batches, the augmentation, and what the model draws.
        flat: Whether the model takes rows of pixels.
        validation: Images to measure the error on after every epoch; nothing is selected by it.
        checkpoint: Folder for the state of the training: after SIGTERM, Ctrl-C or a crash the same call resumes from there.
        minutes: Time between two checkpoints.
        on_progress: Called about twice a second.

    Returns:
        What was measured after every epoch.

    Raises:
        ValueError: The arguments do not go together.
        TrainingError: The training diverged.
        TerminatedError: SIGTERM ended a training with a checkpoint.
        CheckpointError: The checkpoint is damaged or belongs to another training.
        StoreError: Another training uses the checkpoint folder.

    """
    if flat == isinstance(recipe, ImageRecipe):
        raise ValueError(f"with flat={flat} the recipe must be {'a Recipe' if flat else 'an ImageRecipe'}")
    options: dict[str, Any] = {"checkpoint": checkpoint, "minutes": minutes, "on_progress": on_progress}
    if isinstance(recipe, ImageRecipe):
        return _train_on_images(model, training, recipe, seed, validation, **options)
    return _train_on_rows(model, training, recipe, seed, validation, **options)


def _train_on_images(
    model: nn.Module,
    training: Images,
    recipe: ImageRecipe,
    seed: int,
    validation: Images | None,
    *,
    checkpoint: Path | None,
    minutes: float,
    on_progress: OnProgress | None,
) -> History:
    processes = DistributedContext()
    _check(training, validation, recipe, processes.count)
    memory_format = torch.channels_last if recipe.channels_last else torch.preserve_format
    model.to(processes.device).to(memory_format=memory_format)  # type: ignore[call-overload]
    data = [training.x, training.y]
    with (
        open_checkpoint(checkpoint, minutes, processes, [model], [recipe], [seed], data) as checkpointer,
        joint_statistics(model, processes),
    ):
        backend = ModuleBackend(model, recipe, seed, Batches(training, recipe, seed, processes), processes)
        parts = Batches(validation, recipe, seed, processes).parts if validation else None
        recorder = _Recorder(parts, processes, backend)
        callbacks = [recorder, *_reporters(on_progress, model, recorder, "images", recipe.batch)]
        trainer.Trainer(backend, callbacks, checkpointer=checkpointer).run()
    return recorder.history


def _train_on_rows(
    model: nn.Module,
    training: Images,
    recipe: Recipe,
    seed: int,
    validation: Images | None,
    *,
    checkpoint: Path | None,
    minutes: float,
    on_progress: OnProgress | None,
) -> History:
    x = _pixels(training)
    with torch.no_grad():
        targets = F.one_hot(training.y, model(x[:1]).shape[1]).float()
    parts = None
    if validation:
        rows, y = _pixels(validation), validation.y

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            return zip(rows.split(_FLAT_EVALUATION_BATCH), y.split(_FLAT_EVALUATION_BATCH), strict=True)

    recorder = _Recorder(parts, SingleProcess(x.device))
    callbacks = [recorder, *_reporters(on_progress, model, recorder, "it", 1)]
    trainer.train([model], [recipe], [seed], x, targets, callbacks=callbacks, checkpoint=checkpoint, minutes=minutes)
    model.eval()
    with discard_if_diverged(checkpoint):
        _require_finite(trainer.predict([model], x[:EVALUATION_BATCH]))
    return recorder.history


def _require_finite(values: Tensor, when: str = "") -> None:
    if not values.isfinite().all():
        raise TrainingError(f"the training diverged{when}: a smaller learning rate may help")


def _check(training: Images, validation: Images | None, recipe: ImageRecipe, processes: int) -> None:
    n, channels = training.x.shape[:2]
    if recipe.batch > n:
        raise ValueError(f"batch must be at most {n}, the number of images, got {recipe.batch}")
    if recipe.batch % processes:
        raise ValueError(f"batch must be a multiple of {processes}, the number of processes, got {recipe.batch}")
    if not len(recipe.mean) == len(recipe.std) == channels:
        raise ValueError(f"mean and std must have {channels} numbers, one for each channel of the images")
    for images in (training, validation) if validation else (training,):
        if not 0 < len(images.x) == len(images.y):
            raise ValueError(f"there must be images and as many classes, got {len(images.x)} and {len(images.y)}")
        low, high, classes = int(images.y.min()), int(images.y.max()), len(images.classes)
        if low < 0 or high >= classes:
            raise ValueError(f"labels must be from 0 to {classes - 1}, the classes of the images, got {low} to {high}")


class _Recorder(Callback):
    """Fills the history.  parts: the images to validate on that this process has; backend: of images, whose speed counts."""

    def __init__(self, parts: _Parts | None, processes: SingleProcess, backend: ModuleBackend | None = None):
        self.parts, self.processes, self.backend = parts, processes, backend
        self.history = History()

    def on_epoch_end(self, state: TrainingState) -> None:
        _require_finite(state.loss, f" in epoch {state.epoch}")
        history = self.history
        history.train_loss.append(float(state.loss))
        if state.error is not None:
            history.train_error.append(state.error)
        if self.backend:
            history.images_per_second.append(self.backend.steps_per_second * self.backend.recipe.batch)
            history.waiting.append(self.backend.timer.share())
        if self.parts:
            first, fifth = self._errors(self.parts, state.predict)
            history.validation_error.append(first)
            history.validation_top5_error.append(fifth)

    def _errors(self, parts: _Parts, predict: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """The share of images whose class is not the first, and not among the first five; processes share the work."""
        counts = torch.zeros(3, dtype=torch.float64, device=self.processes.device)
        for x, y in parts():
            logits = predict(x)[0]
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            n = torch.tensor(len(y), device=y.device)
            counts += torch.stack([(~best[:, 0]).sum(), (~best.any(1)).sum(), n])
        first, fifth, n = self.processes.sum(counts).tolist()
        return first / n, fifth / n

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.history)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = History(**state)


def _reporters(
    on_progress: OnProgress | None, model: nn.Module, recorder: _Recorder, unit: str, scale: int
) -> list[Callback]:
    """What passes progress on to `on_progress`, if it is given."""

    def metrics(state: TrainingState) -> dict[str, float | str]:
        epoch = f"{min(state.epoch + 1, state.epochs)}/{state.epochs}"
        found: dict[str, float | str] = {"epoch": epoch, "loss": float(state.loss)}
        if recorder.history.validation_error:
            found["validation error"] = recorder.history.validation_error[-1]
        return found

    if not on_progress:
        return []
    return [ProgressReporter(on_progress, type(model).__name__, metrics, unit=unit, scale=scale)]


def _pixels(images: Images) -> Tensor:
    """Images as rows of pixels in [0, 1]."""
    return images.x.flatten(1).float().div_(255)  # in place: it is the largest thing in memory


def _confusion(y: Tensor, predicted: Tensor, classes: int) -> list[list[int]]:
    """How many of each class (rows) were taken for which."""
    counts = (y * classes + predicted).bincount(minlength=classes**2)
    return cast("list[list[int]]", counts.reshape(classes, classes).tolist())


def evaluate(model: nn.Module, preprocessing: Preprocessing, test: Images) -> dict[str, Any]:
    """Measures a trained classifier on test images, on the CPU.

    Returns:
        "test_accuracy"; "confusion", how many images of each class (rows) were taken for which, None of more than 100 classes;
        of a flat network to certify also "certified_accuracy" in float64, by radius.

    Raises:
        TrainingError: The outputs are not finite.

    """
    outputs = logits(model.cpu(), preprocessing, test.x)
    _require_finite(outputs)
    predicted, classes = outputs.argmax(1), len(test.classes)
    found: dict[str, Any] = {"test_accuracy": float((predicted == test.y).double().mean())}
    found["confusion"] = _confusion(test.y, predicted, classes) if classes <= MAX_CONFUSION else None
    if any(isinstance(module, UnitLinear) for module in model.modules()):
        shares = certified_accuracy(copy.deepcopy(model).double(), _pixels(test).double(), test.y, RADII)
        found["certified_accuracy"] = {f"{radius:g}": share for radius, share in zip(RADII, shares, strict=True)}
    return found
