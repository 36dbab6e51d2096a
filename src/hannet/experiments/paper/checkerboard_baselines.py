"""What else learns the checkerboard and the sum of sines: the questions that a reader asks after Figures 1, 6 and 7.

Not in the paper. Are the reflections learnt at all, or do random ones do (u frozen)? Are reflections better than any
orthogonal matrix? And what do SIREN, random Fourier features, nearest neighbours, kernel ridge regression and boosted trees
reach? Each method is given at the size of HanNet 100x20, where it has a size, and at the best of a small grid. Each
candidate is fitted twice: on four fifths of the training points, for the other fifth to choose among them, and on all of
them, for the numbers. Three seeds take about 45 minutes on two cores; with the same --out as figure1 and figure7, the runs
that these share are not trained again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.synthetic import SIDE, Square
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress, ProgressEvent
from ...reporting.tables import Table
from ...train import trainer as training
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from . import _board, figure1

DATA = {"checkerboard": _board.CHECKERBOARD, "sines": _board.SINES}
VALIDATION = 0  # the seed that draws the validation points, the same for all methods and seeds


@dataclass(frozen=True)
class Nets:
    """Networks, each at every rate of one recipe."""

    networks: Sequence[Mapping[str, Any]]
    rates: Sequence[float]
    recipe: Recipe = _board.PROTOCOL
    more: Mapping[str, Any] = field(default_factory=dict)
    seeded: ClassVar[bool] = True

    def runs(self, seed: int, data: Mapping[str, Any], quick: bool) -> list[Run]:
        """A run a candidate."""
        rates = self.rates[:2] if quick else self.rates
        recipes = [replace(self.recipe, lr=rate) for rate in rates]
        pairs = product(self.networks, recipes)
        return [_board.run(network, recipe, seed, quick, data=data, **self.more) for network, recipe in pairs]


@dataclass(frozen=True)
class Estimators:
    """A scikit-learn regressor of the label or value, with each combination of its options; one seed, for it changes nothing."""

    kind: str
    grid: Mapping[str, Sequence[Any]]
    seeded: ClassVar[bool] = False

    def runs(self, seed: int, data: Mapping[str, Any], quick: bool) -> list[Run]:
        """A run a candidate."""
        options = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        configs = [{"estimator": {"kind": self.kind, **chosen}, "data": data} for chosen in options]
        return [
            Run(_board.target_of(config) + "-quick" * quick, config, seed)
            for config in (configs[:2] if quick else configs)
        ]


def _sirens(width: int, *omegas: float) -> list[dict[str, Any]]:
    return [{"kind": "SIREN", "width": width, "depth": 3, "omega": omega} for omega in omegas]


def _fourier(width: int, frequencies: int, *sigmas: float) -> list[dict[str, Any]]:
    size = {"width": width, "depth": 2, "frequencies": frequencies}
    return [{"kind": "Fourier features", **size, "sigma": sigma} for sigma in sigmas]


_HANNET = {"width": 100, "depth": 20}
_ADAM = Recipe(optimizer="adam", iterations=10_000)
_BRIEF_ADAM = replace(_ADAM, iterations=5_000)
MATCHED: dict[str, Nets] = {
    "HanNet": Nets([{"kind": "HanNet", **_HANNET}], _board.RATES),
    "HanNet, u frozen": Nets([{"kind": "frozen HanNet", **_HANNET}], _board.RATES[3:8]),
    "orthogonal dense + ABS": Nets(
        [{"kind": "orthogonal", "width": 20, "depth": 10}], (0.01, 0.025, 0.05, 0.1), Recipe(iterations=15_000)
    ),
    "SIREN": Nets(_sirens(44, 5.0, 10.0, 20.0, 30.0), (3e-4, 1e-3), _ADAM),
    "Fourier features + MLP": Nets(_fourier(40, 31, 0.5, 1.0, 2.0, 4.0), (1e-3, 3e-3), _ADAM),
}
LARGER: dict[str, dict[str, Nets]] = {
    "HanNet": {
        "checkerboard": Nets(
            MATCHED["HanNet"].networks,
            (figure1.RECIPES["HanNet"].lr,),
            figure1.RECIPES["HanNet"],
            {"restarts": figure1.RESTARTS},
        ),
        "sines": Nets([{"kind": "HanNet", "width": 200, "depth": 20}], (0.01, 0.025), Recipe(iterations=80_000)),
    },
    "SIREN": dict.fromkeys(DATA, Nets(_sirens(128, 10.0, 30.0), (3e-4,), _BRIEF_ADAM)),
    "Fourier features + MLP": dict.fromkeys(DATA, Nets(_fourier(128, 128, 2.0, 4.0), (1e-3,), _BRIEF_ADAM)),
}
FREE: dict[str, Estimators] = {
    "nearest neighbours": Estimators(
        "neighbours",
        {"n_neighbors": (1, 2, 3, 5, 8), "weights": ("uniform", "distance"), "metric": ("euclidean", "chebyshev")},
    ),
    "kernel ridge, RBF": Estimators(
        "kernel ridge", {"length": (0.03, 0.05, 0.075, 0.1, 0.15, 0.2), "alpha": (1e-9, 1e-6, 1e-3, 1e-1)}
    ),
    "boosted trees": Estimators(
        "boosting",
        {
            "learning_rate": (0.1,),
            "max_iter": (300, 1000),
            "max_leaf_nodes": (15, 63),
            "min_samples_leaf": (2, 20),
        },
    ),
}
COST = {  # milliseconds of a step, a member, on one core
    ("HanNet", 100): 0.11,
    ("HanNet", 200): 0.24,
    ("frozen HanNet", 100): 0.11,
    ("orthogonal", 20): 0.55,
    ("SIREN", 44): 0.32,
    ("SIREN", 128): 0.95,
    ("Fourier features", 40): 0.2,
    ("Fourier features", 128): 0.95,
}


class Experiment(BaseExperiment):
    """The baselines for some seeds."""

    stem: ClassVar[str] = "checkerboard-baselines"
    needs_weights: ClassVar[bool] = True
    trials: ClassVar[int] = 3

    def groups(self) -> list[list[Run]]:
        """Candidates of one size train together, all seeds; those that choose apart, for they see fewer points."""
        return [
            [run for seed in self._seeds(grid) for run in grid.runs(seed, data, self.quick)]
            for target in DATA
            for grid in _grids(target)
            for data in _parts(target)
        ]

    def _seeds(self, grid: Nets | Estimators) -> tuple[int, ...]:
        return self.seeds if grid.seeded else self.seeds[:1]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in milliseconds."""
        network = run.config.get("network")
        if network is None:
            return 500.0
        steps = Recipe(**run.config["recipe"]).iterations * run.config.get("restarts", 1)
        return COST[network["kind"], network["width"]] * steps

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the networks of one group together, or fit its estimators one after another."""
        config = group[0].config
        name = f"{_board.target_of(config)}{' (to choose)' * ('validation' in config['data'])}"
        if "network" in config:
            return _board.fit(group, f"{config['network']['kind']}, {name}", on_progress)
        square, results = _board.square(config["data"]), []
        for done, run in enumerate(group, 1):
            results.append(fit(run.config["estimator"], square))
            on_progress(ProgressEvent(f"{config['estimator']['kind']}, {name}", done, len(group), "fits"))
        return results

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per method and size, both targets beside each other; mean and standard deviation over seeds."""
        columns = {"method": ("method", ""), "sizes": ("sizes", "")}
        for target, (heading, form, spread) in {
            "checkerboard": ("board test %", "{:.1f}", "{:.1f}"),
            "sines": ("sines test MSE", "{:.1e}", "{:.0e}"),
        }.items():
            columns |= {
                f"{target}_size": ("size", "{:,}"),
                target: (heading, form),
                f"{target}_std": ("std", spread),
                f"{target}_paper": ("best on test", form),
            }
        rows = [{"method": label, "sizes": sizes} for label, sizes in _methods("checkerboard")]
        for row in rows:
            for target in DATA:
                row.update(self._columns(target, _methods(target)[row["method"], row["sizes"]], records))
        notes = [
            f"{format_seeds(self.seeds)}; 1,640 training points, 4,921 test points",
            "test: of the candidate best on a fifth of the training points, fitted on all; the test points decide nothing",
            "a candidate that diverges when fitted on all points counts as none",
            "best on test: of the candidate that is best on the test points, per seed, as the paper selects",
            "sizes, matched: at most as many parameters as HanNet 100x20; at best: of all sizes and recipes tried",
            "size: how many numbers are learnt, or stored (the last three; of trees at most); the largest of those picked",
            *_tried(),
        ]
        return self.make_table("Baselines: checkerboard and sum of sines", columns, rows, notes)

    def _columns(
        self, target: str, grids: Sequence[Nets | Estimators], records: Mapping[str, Record]
    ) -> dict[str, Any]:
        validated, best = (self._chosen(target, grids, records, name) for name in ("validation", "paper"))
        mean, std = mean_and_std([_score(record) for record in validated])
        return {
            f"{target}_size": max(map(_size, validated)),
            target: mean,
            f"{target}_std": std,
            f"{target}_paper": _board.finite(fmean(map(_score, best))),
            f"{target}_picked": [_options(record) for record in validated],
        }

    def _chosen(
        self, target: str, grids: Sequence[Nets | Estimators], records: Mapping[str, Record], selection: str
    ) -> list[Record]:
        """Of each seed the candidate, fitted on all training points, that is best on the test or validation points.

        One that then diverges is none: training shows that, without a test point.
        """
        chosen = []
        for seed in self._seeds(grids[0]):
            tried, twins = (
                [records[run.key] for grid in grids for run in grid.runs(seed, data, self.quick)]
                for data in _parts(target)
            )
            pairs = list(zip(tried, tried if selection == "paper" else twins, strict=True))
            pairs = [pair for pair in pairs if math.isfinite(_board.metric(pair[0], "train_loss"))] or pairs
            best = _board.select("paper", [judged for _, judged in pairs])
            chosen.append(next(fitted for fitted, judged in pairs if judged is best))
        return chosen

    def picture(self, store: Store) -> Figure:
        """The targets, and each method's surface: at matched size where it has one; first seed, chosen by validation."""
        records = store.records()
        labels = [*MATCHED, *FREE]
        figure = new_figure(2.1 * (1 + len(labels)), 5.4)
        lines = figure.subplots(len(DATA), 1 + len(labels), sharex=True, sharey=True)
        for line, target in zip(lines, DATA, strict=True):
            square = _board.square(DATA[target])
            low, high = square.target.aminmax()
            style = _board.IMAGE | {"vmin": low, "vmax": high}
            line[0].imshow(_board.grid(square.target), **style)
            line[0].set_title("target", fontsize=9)
            for axis, label in zip(line[1:], labels, strict=True):
                grids = _methods(target)[label, "matched" if label in MATCHED else "at best"]
                record = self._chosen(target, grids, records, "validation")[0]
                axis.imshow(_board.grid(_surface(store, record, square)), **style)
                score = f"{_score(record):.1f}%" if target == "checkerboard" else f"MSE {_score(record):.1e}"
                axis.set_title(f"{label}\ntest {score}\n{_size(record):,} numbers", fontsize=9)
            for axis in line:
                axis.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        return self.annotate_quick(figure)


def _methods(target: str) -> dict[tuple[str, str], Sequence[Nets | Estimators]]:
    """The grids to choose from, by method and sizes."""
    matched: dict[tuple[str, str], Sequence[Nets | Estimators]] = {
        (label, "matched"): (nets,) for label, nets in MATCHED.items()
    }
    larger = {(label, "at best"): (MATCHED[label], nets[target]) for label, nets in LARGER.items()}
    return matched | larger | {(label, "at best"): (estimators,) for label, estimators in FREE.items()}


def _grids(target: str) -> list[Nets | Estimators]:
    return [*MATCHED.values(), *(nets[target] for nets in LARGER.values()), *FREE.values()]


def _parts(target: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """All training points; four fifths of them, the others being the test points."""
    return DATA[target], DATA[target] | {"validation": VALIDATION}


def _tried() -> list[str]:
    """The grids in words."""
    return [
        "not learnt, and not in size: the u of u frozen; frequencies of Fourier features, N(0, sigma^2), sigma 1/2 to 4",
        "HanNet: 40,000 iterations of SGD at ten rates, u frozen at five; at best: figure1's recipe, or figure7's 200x20",
        "orthogonal: any orthogonal matrices (Cayley map), 20x10, 15,000 iterations of SGD: a step takes five times as long",
        "SIREN (omega 5 to 30) and Fourier features: 10,000 iterations of Adam, the larger 5,000",
        "the last three regress the label, or value, with scikit-learn, and have no seed; the JSON file lists what was picked",
    ]


def _score(record: Record) -> float:
    """Test accuracy in %, or test MSE."""
    if _board.target_of(record.config) == "checkerboard":
        return 100 * _board.metric(record, "test_accuracy")
    return _board.metric(record, "test_mse")


def _size(record: Record) -> int:
    if "size" in record.metrics:
        return int(_board.metric(record, "size"))
    return _board.parameters(_board.build(record.config, record.seed))


def _options(record: Record) -> dict[str, Any]:
    """What distinguishes a candidate."""
    config = record.config
    return dict(config["estimator"]) if "estimator" in config else config["network"] | config["recipe"]


class Surface(nn.Module):
    """What an estimator makes of the mesh, kept as a network's weights are."""

    values: Tensor

    def __init__(self, values: Tensor | None = None):
        super().__init__()
        self.register_buffer("values", torch.empty(SIDE * SIDE) if values is None else values)


def _surface(store: Store, record: Record, square: Square) -> Tensor:
    if "estimator" in record.config:
        surface = store.load_model(record.key, Surface())
        assert isinstance(surface, Surface)
        return surface.values
    net = store.load_model(record.key, _board.build(record.config, record.seed))
    return training.predict([net], square.mesh)[0].mean(-1)


def fit(options: Mapping[str, Any], square: Square) -> Result:
    """Fit one estimator on the square's training points. Its metrics are a network's and `size`, the numbers that it stores."""
    options = dict(options)
    estimator, per_point, fixed = _estimator(options.pop("kind"), options)
    estimator.fit(square.x_train.double().numpy(), square.y_train[:, 0].double().numpy())

    def predict(x: Tensor) -> Tensor:
        values = torch.from_numpy(estimator.predict(x.double().numpy())).float()
        return values[None, :, None].expand(-1, -1, square.y_train.shape[1])

    metrics = {name: value.item() for name, value in _board.measure(square, predict).items()}
    size = per_point * len(square.x_train) + fixed
    return Result(metrics | {"size": size}, Surface(predict(square.mesh)[0, :, 0].contiguous()))


def _estimator(kind: str, options: Mapping[str, Any]) -> tuple[Any, int, int]:
    """The estimator, and how many numbers it stores: for each training point, and besides."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import KNeighborsRegressor

    if kind == "neighbours":
        return KNeighborsRegressor(**options), 3, 0
    if kind == "kernel ridge":
        return KernelRidge(kernel="rbf", gamma=0.5 / options["length"] ** 2, alpha=options["alpha"]), 3, 0
    tree = 3 * options["max_leaf_nodes"] - 2  # feature and threshold of each split, value of each leaf
    return HistGradientBoostingRegressor(**options, random_state=0), 0, tree * options["max_iter"]
