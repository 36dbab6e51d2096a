"""A model of one column of a table, kept as a folder: safetensors and JSON, nothing that runs when it is read."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..estimators import base
from ..estimators.serialization import ModelError
from ..storage import model_dir
from ..storage.files import write_atomic
from .encoders import Encoder
from .metrics import predict, score, small_sample_warning
from .readers import Table
from .target import Target

PARTS = ("estimator.json", "model.safetensors", "table.json")
REPORT = ("report.json", "report.md", "report.png", "report.svg")
_FORMAT = 1  # of table.json


@dataclass(frozen=True)
class Prediction:
    """A table with the predicted columns after its own. metrics: None if the table does not hold the target."""

    cells: pd.DataFrame
    notes: Sequence[str]
    metrics: Mapping[str, Any] | None


@dataclass(frozen=True)
class Model:
    """All that predicting takes. header: whether the table it learned from had one."""

    target: Target
    header: bool
    encoder: Encoder
    estimator: base.HanRegressor | base.HanClassifier

    def predict(self, table: Table) -> Prediction:
        """`prediction`, and of each class its probability; a name that is taken gets a number. Raises TableError."""
        x, odd = self.encoder.encode(table.cells, table.plain)
        output, classes = predict(self.estimator, x), np.array(self.target.classes, object)
        chosen = classes[output.argmax(1)] if len(classes) else [f"{value:.7g}" for value in output]
        added = {_unused_name("prediction", table.cells): chosen}
        for place, name in enumerate(classes):
            free = _unused_name(f"probability {name}", [*table.cells, *added])
            added[free] = [f"{value:.4g}" for value in output[:, place]]
        cells = pd.concat([table.cells, pd.DataFrame(added, index=table.cells.index)], axis=1)
        known = {self.target.name, *self.encoder.groups, *self.encoder.dropped}
        extra = [name for name in table.cells if name not in known]
        notes = [*table.notes, *odd, *([f"columns the model does not know, ignored: {', '.join(extra)}"] * bool(extra))]
        return Prediction(cells, notes, self._metrics(table, output, notes))

    def _metrics(self, table: Table, output: np.ndarray, notes: list[str]) -> Mapping[str, Any] | None:
        if self.target.name not in table.cells:
            return None
        y, counts = self.target.codes(table, self.encoder.missing)
        if not counts.all():
            notes.append(f"rows with no known value of {self.target.name!r}, not in the metrics: {(~counts).sum():,}")
        if not counts.any():
            return None
        notes.append("measured on the rows of this table: any that trained the model make it look better than it is")
        notes += small_sample_warning(int(counts.sum()))
        return score(y[counts], output[counts])

    def save(self, folder: Path, more: Mapping[str, bytes]) -> None:
        """Write model and more files aside, then rename: what was at folder is replaced whole. Raises StoreError, ModelError."""
        with model_dir.replace_folder(folder) as aside:
            self.estimator.save(aside)
            kept = {
                "format": _FORMAT,
                "estimator": _digest(aside),
                "target": asdict(self.target),
                "header": self.header,
                "encoder": self.encoder.to_dict(),
            }
            for name, content in {"table.json": json.dumps(kept, allow_nan=False).encode(), **more}.items():
                write_atomic(aside / name, content)

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """The model that `save` wrote. Raises ModelError if one of its files is missing, damaged or another model's."""
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder: the model is the folder that `hannet fit` saved")
        if lost := [name for name in PARTS if not (folder / name).is_file()]:
            raise ModelError(f"{folder} is no model of `hannet fit`: it has no {' and no '.join(lost)}")
        estimator = base.load(folder)
        try:
            kept = json.loads((folder / "table.json").read_bytes())
            encoder = Encoder.from_dict(kept["encoder"])
            target = Target(kept["target"]["name"], tuple(kept["target"]["classes"]), kept["target"]["decimal"])
            blank = pd.DataFrame({name: pd.Series([""], dtype="str") for name in encoder.groups})
            fits = encoder.encode(blank)[0].shape[1] == estimator.n_features_in_ and kept["estimator"] == _digest(
                folder
            )
            model = cls(target, bool(kept["header"]), encoder, estimator)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / 'table.json'} is damaged, or of another version ({error!r})") from error
        if kept.get("format") != _FORMAT or not fits:
            raise ModelError(
                f"{folder / 'table.json'} is of another version, or of another model than the files beside it"
            )
        return model


def _digest(folder: Path) -> str:
    """Names the estimator that a table.json belongs to."""
    return hashlib.sha256((folder / "estimator.json").read_bytes()).hexdigest()


def _unused_name(name: str, taken: Collection[str]) -> str:
    names = (name, *(f"{name} {number}" for number in range(2, len(taken) + 3)))
    return next(free for free in names if free not in taken)


def require_free(folder: Path, *, force: bool) -> None:
    """Raises StoreError unless a model may be saved there: nothing is there yet, or a model and force."""
    model_dir.require_free(folder, PARTS, REPORT, force=force)
