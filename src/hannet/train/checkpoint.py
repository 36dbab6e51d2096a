"""A training's state in one file, `checkpoint.safetensors`: tensors, and all else as JSON in its header. Nothing in it is executed."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

_FORMAT = 2
_NAME, _CHECK = "hannet", "check"
_SAMPLE = 1 << 28  # bytes of the images that a fingerprint looks at


class TerminatedError(RuntimeError):
    """A training that was told to end (SIGTERM) and kept its state; the message is one sentence for the user."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be gone on from; the message is one sentence for the user."""


def path_in(folder: Path) -> Path:
    """Where a folder's checkpoint is."""
    return folder / "checkpoint.safetensors"


def lock_in(folder: Path) -> Path:
    """What a training that keeps its state in a folder holds."""
    return folder / "checkpoint.lock"


def tidy(folder: Path) -> None:
    """Remove what killed processes left half-written; for who holds the folder's lock."""
    for aside in folder.glob(f".{path_in(folder).name}.*"):
        with suppress(OSError):  # it is in nobody's way
            aside.unlink()


def clear_unreadable(folder: Path) -> None:
    """Remove a checkpoint that is damaged or of another version: for a folder in a cache, which no person looks after."""
    try:
        read(folder)
    except CheckpointError:
        path_in(folder).unlink(missing_ok=True)


def write(folder: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint, on the disk and not only in its cache when this returns. Raises OSError."""
    text = json.dumps({"format": _FORMAT, **told}, allow_nan=False)
    own = {  # copies, as safetensors refuses tensors that share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    content = save(own, {_NAME: text, _CHECK: _checksum(text, own)})
    folder.mkdir(parents=True, exist_ok=True)
    path = path_in(folder)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere folders cannot be opened
        with _opened(folder) as number:
            os.fsync(number)  # else the new name is in the cache only


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a checkpoint holds: safetensors has none, and would give back other numbers than it was given."""
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
            told = json.loads(header[_NAME])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        if told["format"] != _FORMAT:
            raise CheckpointError(f"{path}: of format {told['format']}, but this hannet reads format {_FORMAT}")
        damaged = header[_CHECK] != _checksum(header[_NAME], tensors)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint; remove it to start over") from error
    if damaged:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint; remove it to start over")
    return tensors, told


def fingerprint(model: nn.Module, x: Tensor, y: Tensor, recipe: Any, seed: int) -> str:
    """What a checkpoint must agree in to be gone on from: shapes of the model, images (a sample of them), recipe and seed."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    text = json.dumps([type(model).__name__, shapes, asdict(recipe), seed, list(x.shape)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    stride = max(1, x.nbytes // _SAMPLE)
    for part in (y, x[::stride]):
        digest.update(part.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    whole = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        place, key = name.split(".", 1)
        like = torch.empty_like(parameters[int(place)], dtype=value.dtype)
        state.setdefault(int(place), {})[key] = value if key == "step" else like.copy_(value)
    optimizer.load_state_dict({**whole, "state": state})
