"""A training's state in one file, `checkpoint.safetensors`: tensors, and all else as JSON in its header. Nothing in it is executed."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..storage.files import atomic_writer
from .distributed import SingleProcess
from .errors import CheckpointError, TrainingError

_FORMAT = 3
_NAME, _CHECK = "hannet", "check"
_SAMPLE = 1 << 28  # bytes of the images that a fingerprint looks at


@dataclass(frozen=True)
class SaveResult:
    """What became of a checkpoint. error: why it could not be written, if so; folder: None if another process writes it."""

    folder: Path | None
    error: OSError | None = None

    def __str__(self) -> str:
        if self.error:
            return f"no checkpoint could be written ({self.error.strerror or self.error})"
        if not self.folder:
            return "the first process saves the state"
        return f"the state is saved in {self.folder}, and the same command resumes from there"


def path_in(folder: Path) -> Path:
    """Where a folder's checkpoint is."""
    return folder / "checkpoint.safetensors"


def tidy(folder: Path) -> None:
    """Remove what killed processes left half-written; for who holds the folder's lock."""
    for temp_path in folder.glob(f".{path_in(folder).name}.*"):
        with suppress(OSError):  # it is in nobody's way
            temp_path.unlink()


def clear_unreadable(folder: Path) -> None:
    """Remove a checkpoint that is damaged or of another version: for a folder in a cache, which no person looks after."""
    try:
        read(folder)
    except CheckpointError:
        path_in(folder).unlink(missing_ok=True)


def write(folder: Path, tensors: Mapping[str, Tensor], entries: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint, on the disk and not only in its cache when this returns. Raises OSError."""
    text = json.dumps({"format": _FORMAT, **entries}, allow_nan=False)
    own = {  # copies, as safetensors refuses tensors that share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    content = save(own, {_NAME: text, _CHECK: _checksum(text, own)})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path_in(folder), durable=True) as file:
        file.write(content)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """The checksum of all that a checkpoint holds: safetensors has none, and would give back other numbers than it was given."""
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write` wrote last, or None if there is nothing. Raises CheckpointError for anything else."""
    path = path_in(folder)
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            entries = json.loads(header[_NAME])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        if entries["format"] != _FORMAT:
            raise CheckpointError(f"{path}: of format {entries['format']}, but this hannet reads format {_FORMAT}")
        damaged = header[_CHECK] != _checksum(header[_NAME], tensors)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint", can_start_over=True) from error
    if damaged:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint", can_start_over=True)
    return tensors, entries


def fingerprint(
    networks: Sequence[nn.Module], recipes: Sequence[Any], seeds: Sequence[int], tensors: Sequence[Tensor]
) -> str:
    """What a checkpoint must agree in to be resumed from: shapes of the networks, recipes, seeds, a sample of the data."""
    shapes = [
        (type(network).__name__, {name: list(tensor.shape) for name, tensor in network.state_dict().items()})
        for network in networks
    ]
    sizes = [list(tensor.shape) for tensor in tensors]
    text = json.dumps([shapes, list(map(asdict, recipes)), list(seeds), sizes], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        part = tensor[:: max(1, tensor.nbytes // _SAMPLE)].contiguous().cpu()
        digest.update(part.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def part_of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and counts of steps, by the place of their parameter."""
    return {
        f"{place}.{name}": value
        for place, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The state that `optimizer_state` gave; moments lie in memory as their parameters do, which fused steps rely on."""
    present = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        place, key = name.split(".", 1)
        like = torch.empty_like(parameters[int(place)], dtype=value.dtype)
        state.setdefault(int(place), {})[key] = value if key == "step" else like.copy_(value)
    optimizer.load_state_dict({**present, "state": state})


class Checkpointer:
    """Writes the state of a training into a folder every so many minutes; of several processes only the first does."""

    def __init__(self, folder: Path, minutes: float, identity: str, processes: SingleProcess):
        """identity: the training's `fingerprint`."""
        self.folder, self.seconds, self.identity, self.processes = folder, 60 * minutes, identity, processes
        self.saved_at = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to save the state."""
        return time.perf_counter() - self.saved_at > self.seconds

    def save(self, tensors: Mapping[str, Tensor], entries: Mapping[str, Any]) -> SaveResult:
        """Saves the state. A full disk ends no training: the last good checkpoint stays."""
        self.saved_at = time.perf_counter()
        if not self.processes.first:
            return SaveResult(None)
        try:
            write(self.folder, tensors, {**entries, "fingerprint": self.identity})
        except OSError as error:
            return SaveResult(self.folder, error)
        return SaveResult(self.folder)

    def load(self, restore: Callable[[dict[str, Tensor], dict[str, Any]], int]) -> None:
        """Hands the saved state, if there is one, to `restore`, which returns the steps done: in all processes, or in none.

        Raises CheckpointError.
        """
        if self.processes.first:
            tidy(self.folder)
        step = self._restore(*found, restore) if (found := read(self.folder)) else 0
        if self.processes.all_reduce_max(step, -step) != [step, -step]:
            raise CheckpointError(f"{self.folder}: not all processes find the same checkpoint there")

    def _restore(self, tensors: dict[str, Tensor], entries: dict[str, Any], restore: Callable[[Any, Any], int]) -> int:
        path = path_in(self.folder)
        if entries.get("fingerprint") != self.identity:
            message = f"{path}: of a training with other settings, data or seed"
            raise CheckpointError(message, can_start_over=True)
        try:
            return restore(tensors, entries)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: damaged", can_start_over=True) from error


@contextmanager
def open_checkpoint(
    folder: Path | None, minutes: float, processes: SingleProcess, *training: Sequence[Any]
) -> Iterator[Checkpointer | None]:
    """What keeps a training's state in a folder, which is locked for others in the block; None without a folder.

    training: what `fingerprint` takes. Raises StoreError where another training keeps its state there.
    """
    if not folder:
        yield None
        return
    busy = f"{folder}: another training keeps its state there"
    with processes.exclusive_lock(folder / "checkpoint.lock", busy), discard_if_diverged(folder):
        yield Checkpointer(folder, minutes, fingerprint(*training), processes)


@contextmanager
def discard_if_diverged(folder: Path | None) -> Iterator[None]:
    """A training that diverges in the block leaves no checkpoint in the folder: from there it would diverge again."""
    try:
        yield
    except TrainingError:
        if folder:
            path_in(folder).unlink(missing_ok=True)
        raise
