"""HanNets as scikit-learn estimators: a few are trained side by side, and what they predict is averaged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor, nn

from .features import Array, Scaler
from .members import HanEstimator
from .rows import FEWEST, Rows, same_features
from .serialization import ModelError, files, read_entries


class HanRegressor(RegressorMixin, HanEstimator):
    """Mean of HanNets, trained by AdamW on the squared error.  X: (n, features); y: (n,) or (n, outputs).

    Each of the `members` networks has `depth` hidden layers of `width` units, and is kept at its best epoch on the share
    `validation_fraction` of the rows that it does not train on; members hold out different rows, none of fewer than 20.
    epochs: None for 60 to 300, fewer of more rows; patience: epochs without a gain of any member that end the training.
    Inputs and targets are scaled; see `features.Features`. Raises ValueError, in `fit`, for parameters out of range.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> model = HanRegressor(width=20, depth=3, learning_rate=0.02, batch_size=16, random_state=0).fit(x, np.abs(x[:, 0]))
    >>> model.score(x, np.abs(x[:, 0])) > 0.9
    True
    """

    _loss = "mse"
    _y_options: ClassVar[Mapping[str, bool]] = {"multi_output": True, "y_numeric": True}

    def predict(self, X: Any) -> Array:
        """(n, features) -> (n,), or (n, outputs) after a fit to several outputs."""
        outputs = self._outputs(X)
        y = self._target_scaler.inverse(outputs)
        return y[:, 0] if y.shape[1] == 1 else y

    def _encode(self, y: NDArray[Any]) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return y.reshape(len(y), -1).astype(np.float64)

    def _strata(self, y: Array) -> Array:
        return np.zeros(len(y))

    def _fit_targets(self, y: Array, weights: Array) -> None:
        self._target_scaler = Scaler().fit(y, weights)

    def _targets(self, y: Array) -> Tensor:
        return self._target_scaler.transform(y)

    def _average(self, outputs: Tensor) -> Tensor:
        return outputs.mean(0)

    def _target_to_dict(self) -> dict[str, Any]:
        return self._target_scaler.to_dict()

    def _target_from_dict(self, kept: Mapping[str, Any], outputs: int) -> None:
        self._target_scaler = Scaler().from_dict(kept, outputs)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class HanClassifier(ClassifierMixin, HanEstimator):
    """Mean of the softmax of HanNets, trained by AdamW on the cross entropy.  X: (n, features); y: (n,), labels of classes.

    Parameters are those of HanRegressor, and class_weight: None, "balanced" for classes that count alike however frequent they
    are, or a weight by class, as scikit-learn has it. The rows held out are a share of each class.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> y = np.where(np.abs(x[:, 0]) < 0.5, "inside", "outside")
    >>> model = HanClassifier(width=20, depth=3, learning_rate=0.02, batch_size=16, random_state=0).fit(x, y)
    >>> model.predict([[0.0], [0.9]]).tolist()
    ['inside', 'outside']
    """

    _loss = "cross_entropy"
    _y_options: ClassVar[Mapping[str, bool]] = {}

    def __init__(
        self,
        width: int = 80,
        depth: int = 5,
        *,
        members: int = 5,
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.1,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        class_weight: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        super().__init__(
            width,
            depth,
            members=members,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row.  (n, features) -> (n,)."""
        most = self.predict_proba(X).argmax(1)
        return self.classes_[most]

    def predict_proba(self, X: Any) -> Array:
        """(n, features) -> (n, classes), in the order of classes_."""
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> Array:
        """(n, features) -> (n, classes), in the order of classes_."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _reject(self, y: Any) -> None:
        columns = getattr(y, "shape", ())[1:]
        if columns and columns[0] > 1:
            raise ValueError(
                f"y has {columns[0]} columns, but HanClassifier predicts one class of each row: for several labels a row, "
                "wrap it in sklearn.multioutput.MultiOutputClassifier or sklearn.multiclass.OneVsRestClassifier"
            )

    def _encode(self, y: NDArray[Any]) -> Array:
        if y.dtype == object and (plain := np.array(y.tolist())).dtype.kind in "biu":
            y = plain  # of a data frame whose integers or booleans may be missing, but are not
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        return codes[:, None].astype(np.float64)

    def _strata(self, y: Array) -> Array:
        return y[:, 0]

    def _validation(self, x: Array, y: Array, groups: Array | None, rng: np.random.RandomState, /) -> Rows:
        """As without classes; but rows of equal features and other classes are held out together, or none if few rows differ.

        By itself, the row of one class would be judged by members that learned from that of the other.
        """
        alike = same_features(x)
        if groups is None and alike[-1] < len(x) - 1:
            if alike[-1] + 1 < FEWEST:
                return np.empty((int(self.members), 0), np.int64)
            groups = alike
        return super()._validation(x, y, groups, rng)

    def _class_weighted(self, y: Array, weights: Array, /) -> Array:
        if self.class_weight is None:
            return weights
        codes = y[:, 0].astype(int)
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            return (
                weights / np.bincount(codes, weights)[codes]
            )  # scikit-learn's, but for a factor that is common to all
        factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        if not (np.isfinite(factors).all() and (factors >= 0).all() and (weighted := weights * factors[codes]).any()):
            raise ValueError(
                f"class_weight must give finite weights of at least 0, not all 0, got {self.class_weight!r}"
            )
        return weighted

    def _targets(self, y: Array) -> Tensor:
        return nn.functional.one_hot(torch.from_numpy(y[:, 0]).long(), len(self.classes_)).float()

    def _average(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(2).mean(0)

    def _to_dict(self) -> dict[str, Any]:
        kept = super()._to_dict()
        if isinstance(self.class_weight, dict):  # keys of JSON are strings, and classes need not be
            kept["parameters"]["class_weight"] = [list(pair) for pair in self.class_weight.items()]
        return kept

    def _from_dict(self, kept: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super()._from_dict(kept, weights)
        if isinstance(self.class_weight, list):
            self.class_weight = dict(self.class_weight)

    def _target_to_dict(self) -> dict[str, Any]:
        kind = self.classes_.dtype
        if not (kind.kind in "biufU" or (kind.kind == "O" and all(isinstance(label, str) for label in self.classes_))):
            raise ModelError(f"classes of type {kind} cannot be saved: give them as strings, numbers or booleans")
        return {"type": kind.str, "classes": self.classes_.tolist()}

    def _target_from_dict(self, kept: Mapping[str, Any], outputs: int) -> None:
        self.classes_ = np.array(kept["classes"], np.dtype(kept["type"]))
        if self.classes_.shape != (outputs,):
            raise ValueError(f"{outputs} classes expected, {self.classes_.size} came")


def load(folder: str | Path) -> HanRegressor | HanClassifier:
    """The estimator that `save` wrote there, whichever it is. Raises ModelError."""
    match read_entries(folder).get("class"):
        case "HanRegressor":
            return HanRegressor.load(folder)
        case "HanClassifier":
            return HanClassifier.load(folder)
        case other:
            raise ModelError(f"{files(folder)[0]}: holds a {other}, not a HanRegressor or HanClassifier")
