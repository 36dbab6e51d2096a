"""Replaced layers learn what the layers before them did: each alone on the teacher's activations, then all end to end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.modes import modes_kept
from ..train.batches import seed_of
from ..train.callbacks import Callback, TrainingState
from ..train.checkpoint import open_checkpoint
from ..train.distributed import SingleProcess
from ..train.module_backend import ModuleBackend
from ..train.recipe import Recipe
from ..train.trainer import Trainer, train
from .find import SurgeryError
from .replace import Change, Surgery

LAYERWISE = Recipe(optimizer="adam", lr=0.01, schedule="cosine", batch=256, iterations=500)
END_TO_END = Recipe(optimizer="adam", lr=0.001, schedule="cosine", epochs=3)
LOSSES = ("mse", "kl")
_KEPT = 16_384  # rows of a layer's activations


class StopEarly(Callback):
    """Ends a training whose mean loss over an epoch has not fallen for `patience` epochs, with the weights of the best.

    Args:
        patience: epochs, at least 1.
        least: by what share the loss must fall to count.
    """

    def __init__(self, patience: int = 2, least: float = 1e-3):
        self.patience, self.least = patience, least
        self.best, self.waited = float("inf"), 0

    def on_epoch_end(self, state: TrainingState) -> None:
        """Remembers the weights of the best epoch, or stops."""
        loss = float(state.loss[0])
        if loss < self.best * (1 - self.least) or self.best == float("inf"):
            self.best, self.waited = loss, 0
            state.snapshot_best(torch.ones(1, dtype=torch.bool))
            return
        self.waited += 1
        if self.waited >= self.patience:
            state.stop()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": None if self.best == float("inf") else self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.best = float("inf") if state["best"] is None else state["best"]
        self.waited = state["waited"]


def distill(
    student: Surgery,
    teacher: nn.Module | None,
    batches: Sequence[Any],
    *,
    layerwise: Recipe | None = LAYERWISE,
    end_to_end: Recipe | None = END_TO_END,
    loss: str = "mse",
    temperature: float = 1.0,
    hidden: float = 0.0,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    minutes: float = 10.0,
) -> None:
    """Trains a model after surgery to do what it did before; no labels are needed.

    First each replaced layer alone is trained on what the teacher's layer takes and gives, which is cheap; then all parameters
    of the student that require gradients, on the teacher's outputs.

    Args:
        student: a surgery that is carried out.
        teacher: the model before, with the same names; None for a copy that this function makes from the student.
        batches: inputs of the model, each a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        layerwise: how each layer is trained, on rows of its activations; None for not at all.
        end_to_end: how the student is trained, with a batch a step (`batch` of the recipe does not count); None for not at all.
        loss: "mse" between the outputs, relative to the variance of the teacher's; "kl" between their softmax, for logits.
        temperature: of both softmaxes.
        hidden: weight of the relative mse of the replaced layers' outputs, beside that of the model's.
        seed: of the order of rows and batches.
        callbacks: follow the training end to end: progress, StopEarly.
        checkpoint: folder for the state of the trainings; the same call resumes from there, after a crash or Ctrl-C too.
        minutes: between two checkpoints.

    Raises:
        SurgeryError: for a surgery that is not carried out, or layers that the batches never reach.
        ValueError: for arguments out of range, no batches, or batches that are not finite.
        TrainingError: for a training that diverged.

    >>> from hannet.surgery import replace_feedforward
    >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> distill(replace_feedforward(model), None, [torch.randn(32, 4) for _ in range(4)])
    """
    _check_arguments(student, batches, loss, temperature, hidden)
    teacher = model_before(student) if teacher is None else teacher
    changes = [change for change in student.changes if change.was]
    folder = None if checkpoint is None else Path(checkpoint)
    with modes_kept(student.model, teacher):
        teacher.eval()
        if layerwise is not None:
            for change, (x, y) in zip(changes, activations(teacher, changes, batches, _KEPT), strict=True):
                _train_layer(change, x, y, layerwise, seed, None if folder is None else folder / change.name, minutes)
        if end_to_end is not None:
            pair = _Pair(student.model, teacher, changes, batches, _distance(loss, temperature), hidden)
            _train_all(pair, end_to_end, seed, callbacks, None if folder is None else folder / "all", minutes)


def _check_arguments(student: Surgery, batches: Sequence[Any], loss: str, temperature: float, hidden: float) -> None:
    if not student.done:
        raise SurgeryError("the surgery is not carried out: call apply() first")
    if loss not in LOSSES or not temperature > 0 or not hidden >= 0:
        raise ValueError(
            f"loss must be one of {', '.join(LOSSES)}, temperature above 0 and hidden at least 0, "
            f"got {loss!r}, {temperature} and {hidden}"
        )
    if not len(batches):
        raise ValueError("batches must not be empty")
    for number, batch in enumerate(batches):
        if not all(part.isfinite().all() for part in _tensors(batch)):
            raise ValueError(f"batches[{number}] holds NaN or infinity")


def model_before(student: Surgery) -> nn.Module:
    """A copy of the model as it was before surgery."""
    copied = deepcopy(student)
    copied.undo()
    return copied.model


def call(model: nn.Module, batch: Any) -> Any:
    """The output for a batch: a tensor, positional arguments, or a mapping of keyword arguments."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def _tensor_of(output: Any) -> Tensor:
    """The logits of an output, or the first of its tensors."""
    if isinstance(output, Tensor):
        return output
    if getattr(output, "logits", None) is not None:
        return output.logits
    return _tensor_of(output[0])


@contextmanager
def _watched(model: nn.Module, names: Sequence[str], of_input: bool) -> Iterator[dict[str, Tensor]]:
    """What the modules of these names take, or give, in the latest call of the model."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, given, *output: seen.__setitem__(name, given[0] if of_input else _tensor_of(output[0]))

    with ExitStack() as stack:
        for name in names:
            module = model.get_submodule(name)
            handle = (
                module.register_forward_pre_hook(keep(name)) if of_input else module.register_forward_hook(keep(name))
            )
            stack.callback(handle.remove)
        yield seen


@torch.no_grad()
def activations(
    teacher: nn.Module, changes: Sequence[Change], batches: Sequence[Any], most: int
) -> list[tuple[Tensor, Tensor]]:
    """Rows that each layer takes, (n, in), and gives, (n, out), in float32; at most so many, from the first batches on.

    Raises SurgeryError for a layer that the batches never reach.
    """
    firsts = [change.at for change in changes]
    lasts = [change.last for change in changes]
    rows: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in changes]
    with _watched(teacher, firsts, True) as taken, _watched(teacher, lasts, False) as given:
        for batch in batches:
            taken.clear()
            given.clear()
            call(teacher, batch)
            for (x, y), first, last in zip(rows, firsts, lasts, strict=True):
                if first in taken and last in given and sum(map(len, x)) < most:
                    x.append(taken[first].flatten(0, -2).float())
                    y.append(given[last].flatten(0, -2).float())
    for change, (x, _) in zip(changes, rows, strict=True):
        if not x:
            raise SurgeryError(f"{change.name}: none of the batches reaches it")
    return [(torch.cat(x)[:most], torch.cat(y)[:most]) for x, y in rows]


def _train_layer(
    change: Change, x: Tensor, y: Tensor, recipe: Recipe, seed: int, folder: Path | None, minutes: float
) -> None:
    """A copy in float32 learns, on targets of unit variance so that one rate suits all layers."""
    assert change.module is not None
    if not any(p.requires_grad for p in change.module.parameters()):
        return
    learner = deepcopy(change.module).float()
    size = y.std().clamp_min(1e-6)
    train([_Scaled(learner, size)], [recipe], [seed], x, y / size, checkpoint=folder, minutes=minutes)
    with torch.no_grad():
        for parameter, learned in zip(change.module.parameters(), learner.parameters(), strict=True):
            parameter.copy_(learned)


class _Scaled(nn.Module):
    """What a module gives, divided by a number."""

    def __init__(self, module: nn.Module, size: Tensor):
        super().__init__()
        self.module, self.size = module, float(size)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) -> (n, out)."""
        return self.module(x) / self.size


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted.float()
    return F.mse_loss(found.float(), wanted) / wanted.var().clamp_min(1e-12)


def _distance(loss: str, temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    if loss == "mse":
        return _relative

    def kl(found: Tensor, wanted: Tensor) -> Tensor:
        ours, theirs = ((t.float() / temperature).log_softmax(-1).flatten(0, -2) for t in (found, wanted))
        return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    return kl


class _Pair(nn.Module):
    """The student, whose `forward` gives its distance from the teacher on a batch, by number."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        changes: Sequence[Change],
        batches: Sequence[Any],
        distance: Callable[[Tensor, Tensor], Tensor],
        hidden: float,
    ):
        super().__init__()
        self.student = student
        self.others = teacher, batches  # in a tuple, so that the teacher's parameters are not this module's
        self.distance, self.hidden = distance, hidden
        self.lasts = [change.last for change in changes] if hidden else []

    def train(self, mode: bool = True) -> "_Pair":
        """The student without its dropout: it is to give what the teacher gives in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.training = False
        return self

    def forward(self, number: Tensor) -> Tensor:
        """(): the loss."""
        teacher, batches = self.others
        batch = batches[int(number)]
        with torch.no_grad(), _watched(teacher, self.lasts, False) as wanted:
            target = _tensor_of(call(teacher, batch))
        with _watched(self.student, self.lasts, False) as found:
            loss = self.distance(_tensor_of(call(self.student, batch)), target)
        for name in self.lasts:
            if name in wanted:
                loss = loss + self.hidden / len(self.lasts) * _relative(found[name], wanted[name])
        return loss


class _Numbers:
    """The numbers of the batches, in an order of each epoch that the seed fixes."""

    def __init__(self, count: int, seed: int):
        self.per_epoch, self.seed = count, seed

    def at(self, epoch: int, step: int, /) -> list[Tensor]:
        """The number of a step's batch, and a target that is not needed."""
        order = torch.randperm(self.per_epoch, generator=torch.Generator().manual_seed(seed_of(self.seed, epoch)))
        return [order[step], torch.zeros(())]

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: the order follows from the seed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Continue after so many steps."""


def _train_all(
    pair: _Pair, recipe: Recipe, seed: int, callbacks: Sequence[Callback], folder: Path | None, minutes: float
) -> None:
    parameter = next((p for p in pair.parameters() if p.requires_grad), None)
    if parameter is None:
        raise SurgeryError("the student has no parameter that requires gradients")
    processes = SingleProcess(parameter.device)
    _, batches = pair.others
    sample = list(_tensors(batches[0]))
    with open_checkpoint(folder, minutes, processes, [pair], [recipe], [seed], sample) as checkpointer:
        backend = ModuleBackend(pair, recipe, seed, _Numbers(len(batches), seed), processes)
        backend.loss_function = lambda loss, _: loss
        Trainer(backend, callbacks, checkpointer=checkpointer).run()


def _tensors(batch: Any) -> Iterator[Tensor]:
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else [batch]
    return (part for part in parts if isinstance(part, Tensor))
