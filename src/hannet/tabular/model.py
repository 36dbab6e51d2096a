"""A model of one column of a table, kept as a folder: safetensors and JSON, nothing that runs when it is read."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..estimators import base
from ..estimators.serialization import ModelError
from ..storage import model_dir
from ..storage.files import write_atomic
from .encoders import Encoder
from .metrics import predict, score, small_sample_warning
from .numbers import infer_decimal_marks
from .options import FitOptions, read_weights
from .readers import Table, TableError, join_names
from .target import Target, find_column

if TYPE_CHECKING:
    from ..export.sources import Source

PARTS = ("estimator.json", "model.safetensors", "table.json")
REPORT = ("README.md", "report.html", "report.json", "report.md", "report.png", "report.svg")
_FORMAT = 1  # of table.json


@dataclass(frozen=True)
class Prediction:
    """A table with the predicted columns after its own; metrics: None if the table does not hold the target."""

    cells: pd.DataFrame
    notes: Sequence[str]
    metrics: Mapping[str, Any] | None


@dataclass(frozen=True)
class Model:
    """All that predicting takes; header: whether the table of the training had one; weights: its column of what rows count."""

    target: Target
    header: bool
    encoder: Encoder
    estimator: base.HanRegressor | base.HanClassifier
    weights: str | None = None

    def predict(self, table: Table) -> Prediction:
        """Predict the target of every row.

        Args:
            table: Holds at least the columns that the model was trained on.

        Returns:
            The table with a column `prediction`, and of each class one with its probability; a name that is taken gets a number.

        Raises:
            TableError: A column is missing.
        """
        own, (table, name_notes) = table.cells, self._match_names(table)
        x, encoding_notes = self.encoder.encode(table.cells, table.numeric)
        output, classes = predict(self.estimator, x), np.array(self.target.classes, object)
        predicted = classes[output.argmax(1)] if len(classes) else [f"{value:.7g}" for value in output]
        added = {_unused_name("prediction", own): predicted}
        for position, name in enumerate(classes):
            unused = _unused_name(f"probability {name}", [*own, *added])
            added[unused] = [f"{value:.4g}" for value in output[:, position]]
        cells = pd.concat([own, pd.DataFrame(added, index=own.index)], axis=1)
        known = {self.target.name, *self.encoder.groups, *self.encoder.dropped}
        notes = [*table.notes, *name_notes, *encoding_notes]
        if unknown := [name for name in table.cells if name not in known]:
            notes.append(f"columns the model does not know, ignored: {', '.join(unknown)}")
        metrics, metric_notes = self._metrics(table, output)
        return Prediction(cells, notes + metric_notes, metrics)

    def _export_source(self) -> "Source":
        """What `hannet.export` asks for."""
        from .export_source import TableSource

        return TableSource(self)

    def _match_names(self, table: Table) -> tuple[Table, list[str]]:
        """The table, columns named as the model does where only capitals or blanks at the ends differ, and a note on them."""
        wanted = [self.target.name, *self.encoder.groups, *([self.weights] if self.weights is not None else [])]
        others = [name for name in table.cells if name not in wanted]
        found = {}
        for name in dict.fromkeys(wanted):
            matches = [other for other in others if other.strip().lower() == name.strip().lower()]
            if name not in table.cells and len(matches) == 1 and matches[0] not in found:
                found[matches[0]] = name
        if not found:
            return table, []
        numeric = frozenset(found.get(name, name) for name in table.numeric)
        named = join_names([f"{other!r} for {name!r}" for other, name in found.items()])
        return replace(table, cells=table.cells.rename(columns=found), numeric=numeric), [f"columns taken: {named}"]

    def _metrics(self, table: Table, output: np.ndarray) -> tuple[Mapping[str, Any] | None, list[str]]:
        """The metrics if the table holds the target, and notes on them."""
        if self.target.name not in table.cells:
            return None, []
        y, known = self.target.codes(table, self.encoder.missing)
        notes = self.target.spelling_notes(table, known, self.encoder.missing)
        if not known.all():
            notes.append(f"rows with no known value of {self.target.name!r}, not in the metrics: {(~known).sum():,}")
        if not known.any():
            return None, notes
        notes.append(
            "measured on the rows of this table: if some of them trained the model, it looks better than it is"
        )
        weights, weight_notes = self._weights(table, known)
        notes += weight_notes
        return score(y[known], output[known], weights), notes + small_sample_warning(int(known.sum()))

    def _weights(self, table: Table, rows: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
        """What these rows count in metrics, 1 at most; None for all the same, with a note if training had weights."""
        if self.weights is None:
            return None, []
        options = FitOptions(self.target.name, missing=self.encoder.missing)
        try:
            find_column(table, self.weights, "weights")
            weights = read_weights(table, self.weights, infer_decimal_marks(table, options.missing)[0], options)[rows]
        except TableError as error:
            return None, [f"every row counts the same in the metrics, as {str(error).removeprefix('--')}"]
        if not weights.any():
            return None, [f"every row counts the same in the metrics, as {self.weights!r} is 0 in all of them"]
        return weights / weights.max(), [f"rows count in the metrics as {self.weights!r} says"]

    def save(self, folder: Path, extra_files: Mapping[str, bytes]) -> None:
        """Save the model as a folder; what was there is replaced whole, or not at all.

        Args:
            folder: Where to.
            extra_files: Contents of more files by name, such as those of a report.

        Raises:
            StoreError: The folder cannot be written.
            ModelError: The estimator cannot be saved.
        """
        with model_dir.replace_folder(folder) as temporary:
            self.estimator.save(temporary)
            state = {
                "format": _FORMAT,
                "estimator": _digest(temporary),
                "target": asdict(self.target),
                "header": self.header,
                "weights": self.weights,
                "encoder": self.encoder.to_dict(),
            }
            for name, content in {"table.json": json.dumps(state, allow_nan=False).encode(), **extra_files}.items():
                write_atomic(temporary / name, content)

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """Load a model.

        Args:
            folder: What `save` wrote.

        Returns:
            The same model.

        Raises:
            ModelError: One of its files is missing, damaged or another model's.
        """
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder: the model is the folder that `hannet fit` saved")
        if missing := [name for name in PARTS if not (folder / name).is_file()]:
            raise ModelError(f"{folder} is no model of `hannet fit`: it has no {' and no '.join(missing)}")
        estimator = base.load(folder)
        path = folder / "table.json"
        try:
            state = json.loads(path.read_bytes())
            encoder = Encoder.from_dict(state["encoder"])
            known = state["target"]
            units, sizes = known.get("units", {}), known.get("sizes", ())
            target = Target(known["name"], tuple(known["classes"]), known["decimal"], units, sizes)
            blank = pd.DataFrame({name: pd.Series([""], dtype="str") for name in encoder.groups})
            inputs = encoder.encode(blank)[0].shape[1]
            model = cls(target, bool(state["header"]), encoder, estimator, state.get("weights"))
            same = inputs == estimator.n_features_in_ and state["estimator"] == _digest(folder)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"{path} is damaged, or of another version ({error!r})") from error
        if state.get("format") != _FORMAT or not same:
            raise ModelError(f"{path} is of another version, or of another model than the files beside it")
        return model


def _digest(folder: Path) -> str:
    """Names the estimator that a table.json belongs to."""
    return hashlib.sha256((folder / "estimator.json").read_bytes()).hexdigest()


def _unused_name(name: str, taken: Collection[str]) -> str:
    names = (name, *(f"{name} {number}" for number in range(2, len(taken) + 3)))
    return next(unused for unused in names if unused not in taken)
