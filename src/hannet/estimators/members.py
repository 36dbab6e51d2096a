"""What HanRegressor and HanClassifier share: HanNets trained side by side, whose predictions are averaged."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn

from ..models.registry import build_model
from ..storage.provenance import versions
from ..train import losses
from ..train.callbacks import Callback, TrainingState
from ..train.ensemble import Ensemble
from ..train.recipe import Recipe
from ..train.trainer import train
from .early_stopping import EarlyStopping, VerboseLines
from .features import Array, Features
from .rows import (
    Rows,
    complement,
    distinct,
    group_codes,
    group_validation_rows,
    mean_one,
    relative_weights,
    unit_scale,
    validation_rows,
)
from .serialization import ModelError, files, read_entries, read_weights, restoring, write_model

if TYPE_CHECKING:
    from ..export.sources import Source

_PLAN: Mapping[str, Any] = {"optimizer": "adamw", "schedule": "cosine", "warmup": 0.05}
_ROWS_SEEN, _EPOCHS = 2_000_000, (60, 300)  # by default: so many rows in all, in no fewer and no more epochs
_SMALL_BATCH = 16  # an eighth of the rows, but no fewer, is a batch where batch_size would leave few steps an epoch
_CHUNK = 8192  # rows predicted at once, so that memory stays bounded

_COUNT = (Integral, lambda value: value >= 1, "an integer of at least 1")
_REQUIRED: Mapping[str, tuple[Any, Callable[[Any], bool], str]] = {
    "width": _COUNT,
    "depth": (Integral, lambda value: value >= 2, "an integer of at least 2"),
    "members": _COUNT,
    "epochs": (Integral | None, lambda value: value is None or value >= 1, "None or an integer of at least 1"),
    "batch_size": _COUNT,
    "learning_rate": (Real, lambda value: 0 < value < math.inf, "a finite number above 0"),
    "weight_decay": (Real, lambda value: 0 <= value < math.inf, "a finite number of at least 0"),
    "validation_fraction": (Real, lambda value: 0 <= value < 1, "a number of at least 0 and below 1"),
    "patience": (Integral | None, lambda value: value is None or value >= 1, "None or an integer of at least 1"),
    "verbose": (Integral, lambda value: value >= 0, "an integer of at least 0"),
}


class HanEstimator(BaseEstimator):
    """All but how targets become numbers, and outputs predictions."""

    __metadata_request__fit: ClassVar[Mapping[str, str]] = {"callbacks": UNUSED}

    _network: str | Callable[..., nn.Module] = "HanNet"  # an experiment fits others; those cannot be saved
    _loss: ClassVar[str]
    _y_options: ClassVar[Mapping[str, bool]]

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
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.width = width
        self.depth = depth
        self.members = members
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, callbacks: Sequence[Callback] = ()
    ) -> Self:
        """Trains the members. The order of the rows does not matter, nor whether a row comes twice or with twice the weight.

        Args:
            X: (n, features), an array, a sparse one, or a data frame of numbers.
            y: Targets, (n,) or for a regressor (n, outputs).
            sample_weight: (n,), of the rows in the loss. Only their ratios count.
            groups: (n,), labels of what rows belong to: no member validates on rows of a group that it trains on.
            callbacks: Follow the training: `hannet.train.Callback`, such as ProgressReporter.

        Returns:
            The estimator.

        Raises:
            ValueError: Parameters or data are not valid.
            RuntimeError: Every member diverged.

        """
        self._require()
        self._reject(y)
        self.__dict__.pop("networks_", None)  # a fit that fails must not leave old networks beside a new scaling
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, **self._y_options)
        weights = unit_scale(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        counts = weights > 0
        if not counts.any():
            raise ValueError("sample_weight must be above 0 for at least one row")
        labels = np.column_stack([self._encode(y[counts]), group_codes(groups, y)[counts]])
        x, labels, weights = distinct(_dense(X[counts]), labels, weights[counts])
        y, group = labels[:, :-1], labels[:, -1]
        weights = relative_weights(self._class_weighted(y, weights))
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        validation = self._validation(x, y, None if groups is None else group, rng)
        self._features = Features().fit(x, weights)
        self._fit_targets(y, weights)
        columns = self._features.transform(x), self._targets(y), mean_one(weights)
        self._train(range(seed, seed + self.members), validation, *columns, callbacks)
        return self

    def _reject(self, y: Any) -> None:
        """Raises ValueError for targets that another estimator is for."""

    def _encode(self, y: NDArray[Any]) -> Array:
        """Targets as numbers, (n,) or (n, outputs) -> (n, k)."""
        raise NotImplementedError

    def _strata(self, y: Array) -> Array:
        """What validation rows are drawn evenly from.  (n, k) -> (n,)."""
        raise NotImplementedError

    def _validation(self, _x: Array, y: Array, groups: Array | None, rng: np.random.RandomState, /) -> Rows:
        """The rows that each member validates on, (members, m); x, y, groups: as `distinct` gave them."""
        strata, share = self._strata(y), (self.validation_fraction, int(self.members), rng)
        if groups is None:
            return validation_rows(strata, *share)
        return group_validation_rows(strata, groups, *share)

    def _class_weighted(self, _y: Array, weights: Array, /) -> Array:
        """The weights of the rows, times those of their classes.  y: (n, k); weights: (n,) -> (n,)."""
        return weights

    def _fit_targets(self, y: Array, weights: Array) -> None:
        """Looks at the targets of the rows trained on.  y: (n, k); weights: (n,)."""

    def _targets(self, y: Array) -> Tensor:
        """What the networks learn.  (n, k) -> (n, out) in float32."""
        raise NotImplementedError

    def _average(self, outputs: Tensor) -> Tensor:
        """(members, n, out) -> (n, out)."""
        raise NotImplementedError

    def _require(self) -> None:
        for name, (kind, fits, expected) in _REQUIRED.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or not fits(value):
                raise ValueError(f"{name} must be {expected}, got {value!r}")

    def _train(
        self,
        seeds: Sequence[int],
        validation: NDArray[np.int64],
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        callbacks: Sequence[Callback],
    ) -> None:
        sizes = {"in_features": x.shape[1], "out_features": y.shape[1], "width": self.width, "depth": self.depth}
        shape = {name: int(size) for name, size in sizes.items()}  # a search may give a parameter as a NumPy integer
        networks = [build_model(self._network, seed, **shape).float() for seed in seeds]
        x *= self._features.shrink
        rows, held_out = torch.from_numpy(complement(validation, len(x))), torch.from_numpy(validation)
        n = rows.shape[1]
        if (validation == len(x)).any():  # members hold out groups of other sizes: a row that does not count fills up
            x, y, weights = (torch.cat([column, torch.zeros_like(column[:1])]) for column in (x, y, weights))
        batch = min(int(self.batch_size), max(_SMALL_BATCH, n // 8), n)
        recipe = Recipe(
            lr=float(self.learning_rate), weight_decay=float(self.weight_decay), loss=self._loss, batch=batch,
            epochs=self._epochs(n), **_PLAN,
        )  # fmt: skip

        def validate(state: TrainingState) -> Tensor:
            outputs = torch.cat([state.predict(x[part]) for part in held_out.split(_CHUNK // len(seeds) + 1, 1)], 1)
            return losses.loss(self._loss).value(outputs, y[held_out], weights[held_out])

        stopping = EarlyStopping(len(seeds), self.patience, validate if validation.size else None)
        self.history_ = stopping.history
        followers: list[Callback] = [stopping]
        if self.verbose:
            schedule = recipe.learning_rates(recipe.epochs)
            followers.append(VerboseLines(self.history_, schedule, recipe.lr, every_epoch=self.verbose > 1))
        followers += callbacks
        train(networks, [recipe] * len(seeds), seeds, x, y, rows=rows, weights=weights, callbacks=followers)
        for network in networks:
            network.get_parameter("layers.0.weight").data.mul_(self._features.shrink)
        self._finish(networks, stopping)

    def _epochs(self, rows: int) -> int:
        low, high = _EPOCHS
        return int(self.epochs) if self.epochs is not None else min(max(_ROWS_SEEN // rows, low), high)

    def _finish(self, networks: Sequence[nn.Module], stopping: EarlyStopping) -> None:
        finite = [all(bool(p.isfinite().all()) for p in network.parameters()) for network in networks]
        lived = (stopping.best_epochs > 0) & torch.tensor(finite, device="cpu")
        lost, advice = int((~lived).sum()), f"lower learning_rate, which is {self.learning_rate}"
        if lost == len(networks):
            raise RuntimeError(f"every member diverged: {advice}")
        if lost:
            message = f"{lost} of {len(networks)} members diverged and are left out: {advice}"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        self.networks_ = [networks[index] for index in lived.nonzero().flatten().tolist()]
        self.best_epochs_ = stopping.best_epochs[lived].tolist()
        self.n_iter_ = len(stopping.history["loss"])

    @property
    def n_parameters_(self) -> int:
        """Parameters of all members together."""
        check_is_fitted(self)
        return sum(p.numel() for network in self.networks_ for p in network.parameters())

    def _outputs(self, X: Any) -> Array:
        """The members' average.  In float64, where a row's result depends on the rows beside it in the last digit only."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        members = Ensemble(self.networks_, torch.float64)
        parts = (X[start : start + _CHUNK] for start in range(0, X.shape[0], _CHUNK))
        chunks = (self._features.transform(_dense(part)).double() for part in parts)
        return np.concatenate([self._average(members.predict(chunk)).numpy() for chunk in chunks])

    def save(self, folder: str | Path) -> None:
        """Writes `model.safetensors` and `estimator.json`, each whole or not at all. Raises ModelError."""
        check_is_fitted(self)
        write_model(folder, self._to_dict(), nn.ModuleList(self.networks_).state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The estimator that `save` wrote there: it predicts the same bits. Raises ModelError."""
        kept = read_entries(folder)
        if kept.get("class") != cls.__name__:
            raise ModelError(f"{files(folder)[0]}: holds a {kept.get('class')}, not a {cls.__name__}")
        weights = read_weights(folder, kept)
        with restoring(folder):
            estimator = cls(**kept["parameters"])
            estimator._from_dict(kept, weights)
        return estimator

    def _to_dict(self) -> dict[str, Any]:
        into, _, stack, out = self.networks_[0].layers
        history = {name: [v if math.isfinite(v) else None for v in values] for name, values in self.history_.items()}
        parameters = self.get_params(deep=False)
        if isinstance(self.random_state, np.random.RandomState):  # it was used up by fit, and predict needs none
            parameters["random_state"] = None
        return {
            "class": type(self).__name__,
            "versions": {**versions(), "scikit-learn": sklearn.__version__},
            "parameters": parameters,
            "n_features_in": self.n_features_in_,
            "feature_names_in": getattr(self, "feature_names_in_", np.array([])).tolist(),
            "features": self._features.to_dict(),
            "target": self._target_to_dict(),
            "network": {"out_features": out.out_features, "width": into.out_features, "depth": len(stack) + 1},
            "best_epochs": self.best_epochs_,
            "history": history,
        }

    def _from_dict(self, kept: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        shape = kept["network"]
        self.n_features_in_ = int(kept["n_features_in"])
        if names := kept["feature_names_in"]:
            self.feature_names_in_ = np.array(names, object)
        self._features = Features().from_dict(kept["features"], self.n_features_in_)
        self._target_from_dict(kept["target"], shape["out_features"])
        self.best_epochs_ = kept["best_epochs"]
        self.history_ = {k: [math.nan if v is None else v for v in values] for k, values in kept["history"].items()}
        self.n_iter_ = len(self.history_["loss"])
        shape = {"in_features": self._features.width, **shape}
        self.networks_ = [build_model("HanNet", 0, **shape).float() for _ in self.best_epochs_]
        nn.ModuleList(self.networks_).load_state_dict(weights)

    def _export_source(self) -> "Source":
        """What `hannet.export` asks for."""
        from .export_source import EstimatorSource

        check_is_fitted(self)
        return EstimatorSource(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "networks_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _dense(X: Any) -> Array:
    """Rows as an array; a sparse matrix is unpacked in no larger parts than need be."""
    return X.toarray() if hasattr(X, "toarray") else X
