"""A fitted model as a folder: `model.safetensors` (weights) and `estimator.json` (all else). Nothing in it is executed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..storage.files import StoreError, read_json_object, write_atomic
from ..storage.model_dir import replace_folder

_FORMAT = 1


class ModelError(RuntimeError):
    """A model that cannot be saved or loaded; the message is one sentence for the user."""


def files(folder: str | Path) -> tuple[Path, Path]:
    """Where the entries and the weights of a model are."""
    return Path(folder, "estimator.json"), Path(folder, "model.safetensors")


def write_model(folder: str | Path, entries: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    """Writes both files at one instant, or, beside files of other programs, each whole; entries name their weights. Raises ModelError."""
    path, weights_path = files(folder)
    content = save(weights)
    kept = {"format": _FORMAT, **entries, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        text = json.dumps(kept, allow_nan=False, indent=1, default=_plain)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: JSON cannot keep every parameter ({error})") from error
    try:
        if _holds_others(path.parent):
            write_atomic(weights_path, content)
            write_atomic(path, text.encode())
            return
        with replace_folder(path.parent) as made:
            made.mkdir()
            for name, part in ((weights_path.name, content), (path.name, text.encode())):
                write_atomic(made / name, part)
    except (OSError, StoreError) as error:
        raise ModelError(f"{path.parent}: cannot be written ({error})") from error


def _holds_others(folder: Path) -> bool:
    """Whether replacing the folder would take away more than an older model, or a link to it."""
    mine = {path.name for path in files(folder)}
    return folder.is_symlink() or (folder.is_dir() and bool({path.name for path in folder.iterdir()} - mine))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is of type {type(value).__name__}")


def read_entries(folder: str | Path) -> dict[str, Any]:
    """The entries that `write_model` wrote. Raises ModelError for anything else."""
    path, _ = files(folder)
    if not path.parent.is_dir():
        raise ModelError(f"{folder}: there is no such folder")
    kept = read_json_object(path, ModelError)
    if not isinstance(kept.get("format"), int):
        raise ModelError(f"{path}: not written by hannet")
    if kept["format"] != _FORMAT:
        raise ModelError(f"{path}: of format {kept['format']}, but this hannet reads format {_FORMAT}")
    return kept


def read_weights(folder: str | Path, entries: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that were written with these entries. Raises ModelError for any other, and for ones not finite."""
    _, path = files(folder)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entries.get("sha256"):
            raise ModelError(f"{path}: damaged, or of another model than estimator.json beside it")
        weights = load(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged, or not written by hannet") from error
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise ModelError(f"{path}: holds weights that are not finite")
    return weights


@contextmanager
def restoring(folder: str | Path) -> Iterator[None]:
    """Around what makes a model of entries and weights: turns their faults into a ModelError."""
    path, weights_path = files(folder)
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{path}: the entry {error} is missing") from error
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path}: damaged, or of another version ({error})") from error
    except RuntimeError as error:
        raise ModelError(f"{weights_path}: does not fit the networks that {path.name} beside it tells of") from error
