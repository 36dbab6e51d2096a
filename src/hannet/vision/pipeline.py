"""The training of classifiers of images (sections 5.3 and 5.4): images stay on the device, where batches are taken and changed.

What is random in a step depends on the seed and the number of the step alone, so a training that was cut off goes on as if it
had not been, and several processes (`torchrun`, `accelerate launch`) share each batch and get what one process gets.
"""

import copy
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..certify import certified_accuracy
from ..data import Images
from ..layers.affine import UnitLinear
from ..reporting.progress import OnProgress, ProgressEvent
from ..train import checkpoint as checkpoints
from ..train import trainer
from ..train.checkpoint import TerminatedError
from ..train.distributed import DistributedContext, joint_statistics
from ..train.recipe import Recipe
from .loader import Batches, LoaderTimer, seed_of
from .preprocessing import AT_ONCE, Preprocessing
from .recipe import PRECISIONS, ImageRecipe

_LOOK_EVERY = 50  # steps between two looks at what the device computed, and at what other processes were told
_TELL_EVERY = 0.5  # seconds
_FLAT_AT_ONCE = 2000  # rows of pixels that a network sees at once where it does not train: it bounds memory
RADII = (0.5, 1.58)  # l2 distances for which test images are certified


class TrainingError(RuntimeError):
    """A training that could not go on; the message is one sentence for the user."""


@dataclass
class History:
    """What was seen, a number an epoch. waiting: the share of a step's time that made its batch."""

    train_loss: list[float] = field(default_factory=list)
    train_error: list[float] = field(default_factory=list)
    validation_error: list[float] = field(default_factory=list)
    validation_top5_error: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)

    def last(self) -> dict[str, float]:
        """Of the last epoch; of speeds the median."""
        typical = ("images_per_second", "waiting")
        return {
            name: median(values) if name in typical else values[-1] for name, values in asdict(self).items() if values
        }


def train_classifier(
    model: nn.Module,
    training: Images,
    recipe: Recipe | ImageRecipe,
    seed: int,
    *,
    flat: bool = False,
    validation: Images | None = None,
    checkpoint: Path | None = None,
    minutes: float = 10.0,
    on_progress: OnProgress | None = None,
) -> History:
    """Trains a classifier of images in place, and leaves it in eval mode.

    Args:
        model: Maps images (n, channels, h, w), float32, to logits (n, classes); with `flat`, rows of pixels (n, pixels) in [0, 1].
        training: The images to train on.
        recipe: An ImageRecipe, or, with `flat`, a Recipe.
        seed: Fixes the order of the batches, the augmentation, and what the model draws.
        flat: Whether the model takes rows of pixels.
        validation: Images to measure the error on after every epoch; nothing is selected by it.
        checkpoint: Folder for the state of the training, from which the same call resumes.
        minutes: Time between two checkpoints.
        on_progress: Called about twice a second.

    Returns:
        What was measured after every epoch.

    Raises:
        ValueError: The arguments do not go together.
        TrainingError: The training diverged.
        TerminatedError: SIGTERM ended the training.
        CheckpointError: The checkpoint is damaged or belongs to another training.
        StoreError: Another training uses the checkpoint folder.

    """
    if flat == isinstance(recipe, ImageRecipe):
        raise ValueError(f"with flat={flat} the recipe must be {'a Recipe' if flat else 'an ImageRecipe'}")
    if not isinstance(recipe, ImageRecipe):
        return _fit_flat(model, training, recipe, seed, validation, on_progress)
    options: dict[str, Any] = {"held": validation, "checkpoint": checkpoint, "on_progress": on_progress}
    return fit(model, training, recipe, seed, minutes=minutes, **options)


def _fit_flat(
    model: nn.Module,
    training: Images,
    recipe: Recipe,
    seed: int,
    validation: Images | None,
    on_progress: OnProgress | None,
) -> History:
    history = History()
    x = _flat(training)
    with torch.no_grad():
        targets = F.one_hot(training.y, model(x[:1]).shape[1]).float()

    def on_epoch(epoch: trainer.Epoch) -> None:
        history.train_loss.append(float(epoch.loss))
        if validation:
            logits = torch.cat([epoch.predict(part)[0] for part in _flat(validation).split(_FLAT_AT_ONCE)])
            history.validation_error.append(float((logits.argmax(1) != validation.y).double().mean()))

    def on_step(now: trainer.Progress) -> None:
        if on_progress:
            metrics = {"loss": float(now.loss)}
            if history.validation_error:
                metrics["validation error"] = history.validation_error[-1]
            on_progress(ProgressEvent(type(model).__name__, now.step, now.steps, "it", metrics))

    trainer.train([model], [recipe], [seed], x, targets, on_epoch=on_epoch, on_progress=on_step)
    model.eval()
    return history


def _flat(images: Images) -> Tensor:
    return images.x.flatten(1).float() / 255


@torch.no_grad()
def evaluate(model: nn.Module, preprocessing: Preprocessing, test: Images) -> dict[str, Any]:
    """Measures a trained classifier on test images.

    Returns:
        "test_accuracy"; of a flat network to certify also "certified_accuracy" in float64, by radius.

    Raises:
        TrainingError: The outputs are not finite.

    """
    model.cpu().eval()
    logits = torch.cat([model(preprocessing(part)) for part in test.x.split(AT_ONCE)])
    if not logits.isfinite().all():
        raise TrainingError("the training diverged: a smaller learning rate may help")
    found: dict[str, Any] = {"test_accuracy": float((logits.argmax(1) == test.y).double().mean())}
    if any(isinstance(module, UnitLinear) for module in model.modules()):
        shares = certified_accuracy(copy.deepcopy(model).double(), _flat(test).double(), test.y, RADII)
        found["certified_accuracy"] = {f"{radius:g}": share for radius, share in zip(RADII, shares, strict=True)}
    return found


def fit(
    model: nn.Module,
    training: Images,
    recipe: ImageRecipe,
    seed: int,
    *,
    held: Images | None = None,
    checkpoint: Path | None = None,
    minutes: float = 10.0,
    on_progress: OnProgress | None = None,
) -> History:
    """Trains a classifier in place, on a GPU if there is one.  model: images (n, channels, h, w), float32 -> logits (n, classes).

    held: images to measure the error on after every epoch; nothing is chosen by it. checkpoint: a folder that keeps the state every
    so many minutes, at the end, and when SIGTERM or Ctrl-C ends the training; from what is there it goes on. Only the first of
    several processes writes and tells of progress; all of them end with the same weights.
    Raises ValueError where the arguments do not fit together, TrainingError if the training diverges, TerminatedError after SIGTERM,
    CheckpointError for a checkpoint that is damaged or of another training, StoreError for a folder that another training is in.
    """
    processes = DistributedContext()
    _check(training, held, recipe, processes.count)
    with torch.random.fork_rng(devices=[processes.device] if processes.device.type == "cuda" else []):
        with _alone(checkpoint, processes), joint_statistics(model, processes):
            state = _Training(model, training, recipe, seed, held, processes)
            keeper = _Keeper(checkpoint, minutes, state, on_progress) if checkpoint else None
            if keeper:
                keeper.restore()
            _run(state, keeper, on_progress)
        state.finish()
    return state.history


def _alone(folder: Path | None, processes: DistributedContext) -> AbstractContextManager[None]:
    if not folder:
        return nullcontext()
    return processes.alone(checkpoints.lock_in(folder), f"{folder}: another training keeps its state there")


def _check(training: Images, held: Images | None, recipe: ImageRecipe, processes: int) -> None:
    n, channels = training.x.shape[:2]
    if recipe.batch > n:
        raise ValueError(f"batch must be at most {n}, the number of images, got {recipe.batch}")
    if recipe.batch % processes:
        raise ValueError(f"batch must be a multiple of {processes}, the number of processes, got {recipe.batch}")
    if not len(recipe.mean) == len(recipe.std) == channels:
        raise ValueError(f"mean and std must have {channels} numbers, one for each channel of the images")
    for images in (training, held) if held else (training,):
        if not 0 < len(images.x) == len(images.y):
            raise ValueError(f"there must be images and as many classes, got {len(images.x)} and {len(images.y)}")
        least, most, classes = int(images.y.min()), int(images.y.max()), len(images.classes)
        if least < 0 or most >= classes:
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, the classes of the images, got {least} to {most}"
            )


def _run(state: "_Training", keeper: "_Keeper | None", on_progress: OnProgress | None) -> None:
    told = time.perf_counter()
    with _signals() as caught:
        while state.epoch < state.recipe.epochs:
            state.step()
            if state.at == state.per_epoch:
                state.end_epoch()
            now = time.perf_counter()
            over = state.epoch == state.recipe.epochs
            if on_progress and state.processes.first and (over or now - told > _TELL_EVERY):
                on_progress(state.progress())
                told = now
            number, due = state.agreed(caught[0] if caught else 0, keeper is not None and keeper.due())
            kept = keeper.keep_and_go_on() if keeper and (due or over) else False
            if number and (kept or not over):  # what is over and not kept would be lost
                _end(number, keeper)


def _end(number: int, keeper: "_Keeper | None") -> None:
    kept = keeper.keep() if keeper else "no checkpoint was asked for"
    if number == signal.SIGINT:
        raise KeyboardInterrupt(kept)
    raise TerminatedError(f"told to end; {kept}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Notes SIGTERM and the first SIGINT instead of dying of them; what is ignored stays ignored."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    heard = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Training:
    """The state of a training between two steps: epoch and at, the steps done in it, the sums so far, the history."""

    def __init__(
        self,
        model: nn.Module,
        training: Images,
        recipe: ImageRecipe,
        seed: int,
        held: Images | None,
        processes: DistributedContext,
    ):
        self.recipe, self.seed, self.processes, self.device = recipe, seed, processes, processes.device
        form = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.model = model.to(self.device).to(memory_format=form)  # type: ignore[call-overload]
        self.parallel: nn.Module = self.model
        if processes.count > 1:
            self.parallel = DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
            if recipe.ema
            else None
        )
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            fused=self.device.type == "cuda" or None,  # fp16 then waits for no step's gradients
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.batches = Batches(training, recipe, seed, processes)
        self.held = held and Batches(held, recipe, seed, processes)
        self.fingerprint = checkpoints.fingerprint(model, training.x, training.y, recipe, seed)
        self.per_epoch = self.batches.per_epoch
        self.epoch = self.at = 0
        self.sums = torch.zeros(
            2, dtype=torch.float64, device=self.device
        )  # of losses and of errors, a step's mean each
        self.history = History()
        self.began, self.since = time.perf_counter(), 0
        self.watch = LoaderTimer(self.device)
        self.asked, self.unasked, self.ask_after = self.began, 0, 1

    def _logits(self, network: nn.Module, x: Tensor) -> Tensor:
        dtype = PRECISIONS[self.recipe.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return network(x).float()

    def step(self) -> None:
        """One step of the optimizer."""
        torch.manual_seed(seed_of(self.seed, self.epoch, self.at, 1))  # of what the model draws itself
        self.parallel.train()
        rate = self.recipe.rate((self.epoch * self.per_epoch + self.at) / (self.recipe.epochs * self.per_epoch))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.watch.step(self.at) as batch_made:
            x, y = self.batches.at(self.epoch, self.at)
            batch_made()
            logits = self._logits(self.parallel, x)
            loss = F.cross_entropy(logits, y)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            if self.average:
                self.average.update_parameters(self.model)
            wrong = (logits.detach().argmax(1) != y).double().mean()
            self.sums += torch.stack([loss.detach().double(), wrong])
        self.at += 1
        self.since += 1
        if self.at % _LOOK_EVERY == 0 or self.at == self.per_epoch:
            self._look()

    def _look(self) -> None:
        if not self.joint_sums().isfinite().all():  # so that all processes stop
            raise TrainingError(f"the training diverged in epoch {self.epoch + 1}: a smaller rate may help")

    def end_epoch(self) -> None:
        """Measures, and begins the next one."""
        speed = self._speed()
        loss, error = (self.joint_sums() / self.per_epoch).tolist()
        history = self.history
        history.train_loss.append(loss)
        history.train_error.append(error)
        history.images_per_second.append(speed)
        history.waiting.append(self.watch.share())
        if self.held:
            first, fifth = self._errors(self.held)
            history.validation_error.append(first)
            history.validation_top5_error.append(fifth)
        self.epoch, self.at = self.epoch + 1, 0
        self.sums.zero_()
        self.began, self.since = time.perf_counter(), 0

    def _speed(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.since * self.recipe.batch / max(time.perf_counter() - self.began, 1e-9)

    @torch.no_grad()
    def _errors(self, held: Batches) -> tuple[float, float]:
        """The share of images whose class is not the first, and not among the first five; processes share the work."""
        network = self.average or self.model
        network.eval()
        wrong = torch.zeros(2, dtype=torch.float64, device=self.device)
        for x, y in held.parts():
            logits = self._logits(network, x)
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            wrong += torch.stack([(~best[:, 0]).sum(), (~best.any(1)).sum()])
        first, fifth = (self.processes.sum(wrong) / len(held.y)).tolist()
        return first, fifth

    def agreed(self, number: int, due: bool) -> tuple[int, bool]:
        """The signal that any process caught, 0 if none did, and whether to keep the state: the same in all, about once a second."""
        if self.processes.count == 1:
            return number, due
        self.unasked += 1
        if self.unasked < self.ask_after and self.epoch < self.recipe.epochs:
            return 0, False
        now = time.perf_counter()
        milliseconds = int(1000 * (now - self.asked) / self.unasked) + 1
        number, kept, slowest = self.processes.largest(number, int(due), milliseconds)
        self.asked, self.unasked, self.ask_after = now, 0, min(max(1000 // slowest, 1), _LOOK_EVERY)
        return number, bool(kept)

    def joint_sums(self) -> Tensor:
        """The sums of all processes, their mean; all must ask."""
        return self.processes.sum(self.sums) / self.processes.count

    def progress(self) -> ProgressEvent:
        """How far it is."""
        recipe, history = self.recipe, self.history
        done, total = self.epoch * self.per_epoch + self.at, recipe.epochs * self.per_epoch
        metrics: dict[str, float | str] = {"epoch": f"{min(self.epoch + 1, recipe.epochs)}/{recipe.epochs}"}
        metrics["loss"] = float(self.sums[0]) / self.at if self.at else history.train_loss[-1]
        if history.validation_error:
            metrics["validation error"] = history.validation_error[-1]
        return ProgressEvent(type(self.model).__name__, done * recipe.batch, total * recipe.batch, "images", metrics)

    def tensors(self) -> dict[str, Tensor]:
        """All of the state that is tensors, but for the sums."""
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        found |= {f"optimizer.{name}": tensor for name, tensor in checkpoints.optimizer_state(self.optimizer).items()}
        if self.average:
            found |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        return found

    def told(self) -> dict[str, Any]:
        """All other state."""
        return {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "at": self.at,
            "history": asdict(self.history),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, tensors: dict[str, Tensor], told: dict[str, Any]) -> None:
        """The state that `tensors` and `told` gave."""
        self.model.load_state_dict(checkpoints.of("model.", tensors))
        checkpoints.restore_optimizer(self.optimizer, checkpoints.of("optimizer.", tensors))
        if self.average:
            self.average.load_state_dict(checkpoints.of("average.", tensors))
        self.scaler.load_state_dict(told["scaler"])
        self.sums.copy_(
            tensors["sums"] * (self.processes.count if self.processes.first else 0)
        )  # its mean is as it was
        self.epoch, self.at, self.history = told["epoch"], told["at"], History(**told["history"])

    def finish(self) -> None:
        """Leaves the model as it is to be used."""
        if self.average:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()


class _Keeper:
    """Writes the state of a training into its folder; only the first process does."""

    def __init__(self, folder: Path, minutes: float, state: _Training, on_progress: OnProgress | None) -> None:
        self.folder, self.seconds, self.state, self.on_progress = folder, 60 * minutes, state, on_progress
        self.kept = time.perf_counter()

    def restore(self) -> None:
        """Goes on from the checkpoint, if there is one; all processes do, or none."""
        if self.state.processes.first:
            checkpoints.tidy(self.folder)
        if found := checkpoints.read(self.folder):
            self._restore(*found)
        done = self.state.epoch * self.state.per_epoch + self.state.at
        if self.state.processes.largest(done, -done) != [done, -done]:
            raise checkpoints.CheckpointError(f"{self.folder}: not all processes find the same checkpoint there")

    def _restore(self, tensors: dict[str, Tensor], told: dict[str, Any]) -> None:
        path = checkpoints.path_in(self.folder)
        if told.get("fingerprint") != self.state.fingerprint:
            raise checkpoints.CheckpointError(
                f"{path}: of a training with other settings, images or seed; remove it to start over"
            )
        try:
            self.state.restore(tensors, told)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoints.CheckpointError(f"{path}: damaged; remove it to start over") from error

    def due(self) -> bool:
        """Whether it is time to keep the state."""
        return time.perf_counter() - self.kept > self.seconds

    def keep_and_go_on(self) -> bool:
        """Keeps the state, or tells that it could not; whether it is kept."""
        said = self.keep()
        kept = not said.startswith("no")
        if self.on_progress and not kept:
            event = self.state.progress()
            self.on_progress(replace(event, metrics={**event.metrics, "": said}))
        return kept

    def keep(self) -> str:
        """Keeps the state; all processes must. Returns what to say of it: a full disk ends no training, the last good checkpoint stays."""
        self.kept, sums = time.perf_counter(), self.state.joint_sums()
        if not self.state.processes.first:
            return "the first process keeps the state"
        try:
            checkpoints.write(self.folder, self.state.tensors() | {"sums": sums}, self.state.told())
        except OSError as error:
            return f"no checkpoint could be written ({error.strerror or error})"
        return f"the state is kept in {self.folder}, and the same command goes on from there"
