"""What the experiments on the square share: nets of a config on a target, ten learning rates, the paper's two selections.

The protocol (section 4): MSE, SGD with momentum 0.9, batch 100, 40,000 iterations (80,000 on the sines), the rate x 0.2 at
1/2, 7/10 and 9/10 of them; of ten initial rates the best is taken.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor, nn

from ...data.synthetic import SIDE, Square, checkerboard, sines
from ...layers.han import Householder
from ...models.hannet import ACTIVATIONS
from ...models.registry import build_model, register
from ...reporting.progress import OnProgress
from ...train import trainer as training
from ...train.callbacks import ProgressReporter, TrainingState
from ...train.recipe import Recipe
from ..base import Result
from ..record import Record, Run

RATES = (0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5)
QUICK_RATES = (0.025, 0.05, 0.1)
QUICK_ITERATIONS = 500
TARGETS: dict[str, Callable[..., Square]] = {"checkerboard": checkerboard, "sines": sines}
CHECKERBOARD: dict[str, Any] = {"squares": 12, "split_seed": 0}
OUTPUTS = {"checkerboard": 2, "sines": 1}
SINES: dict[str, Any] = {"target": "sines", "split_seed": 0}
PROTOCOL = Recipe()
EVALUATE_EVERY = 3.0  # seconds: the members' accuracies cost more than a training step


@register("ablation")
def ablation_net(
    in_features: int, out_features: int, width: int, depth: int, layers: str, activation: str
) -> nn.Sequential:
    """A HanNet with other hidden layers ("householder" or "dense") or another activation; Linear weights start orthogonal."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "householder": partial(Householder, width, bias=True),
        "dense": partial(nn.Linear, width, width),
    }
    hidden = [nn.Linear(in_features, width), *(kinds[layers]() for _ in range(depth - 1))]
    activated = [module for one in hidden for module in (one, ACTIVATIONS[activation]())]
    net = nn.Sequential(*activated, nn.Linear(width, out_features))
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
    return net


def run(network: Mapping[str, Any], recipe: Recipe, seed: int, quick: bool, **more: Any) -> Run:
    """A net trained by a recipe. more: what else its config holds, such as restarts, or another data than CHECKERBOARD."""
    if quick:
        recipe = replace(recipe, iterations=QUICK_ITERATIONS)
    config = {"network": network, "recipe": recipe.differences(), "data": CHECKERBOARD} | more
    return Run(target_of(config) + "-quick" * quick, config, seed)


def learning_rate_sweep(
    network: Mapping[str, Any],
    seed: int,
    quick: bool,
    rates: Sequence[float] = RATES,
    *,
    recipe: Recipe = PROTOCOL,
    **more: Any,
) -> list[Run]:
    """A net at every rate; the members of one training. recipe: all but the rate; more: as in `run`."""
    chosen = QUICK_RATES if quick else rates
    return [run(network, replace(recipe, lr=rate), seed, quick, **more) for rate in chosen]


def target_of(config: Mapping[str, Any]) -> str:
    """The name of a config's target, in TARGETS."""
    return config.get("data", CHECKERBOARD).get("target", "checkerboard")


def square(data: Mapping[str, Any]) -> Square:
    """The target and points of a config's data. validation, a seed: its test points are a fifth of the training points."""
    options = dict(data)
    target, seed = options.pop("target", "checkerboard"), options.pop("validation", None)
    whole = TARGETS[target](**options)
    return whole if seed is None else whole.validation(seed)


def fit(group: Sequence[Run], label: str, on_progress: OnProgress) -> list[Result]:
    """Train the runs of one group together; a run with restarts is the one of its starts with the lowest training loss."""
    device = training.device()
    board = square(group[0].config["data"]).to(device)
    starts = [(run, run.seed + 1000 * start) for run in group for start in range(run.config.get("restarts", 1))]
    networks = [build(run.config, seed).to(device) for run, seed in starts]
    recipes = [Recipe(**run.config["recipe"]) for run, _ in starts]
    seeds = [seed for _, seed in starts]
    follow = ProgressReporter(on_progress, label, _BestMember(board))
    training.train(networks, recipes, seeds, board.x_train, board.y_train, callbacks=[follow])
    metrics = measure(board, partial(training.predict, networks))
    outcomes = zip(zip(*(column.tolist() for column in metrics.values()), strict=True), networks, strict=True)
    results: list[Result] = []
    for run in group:
        mine = islice(outcomes, run.config.get("restarts", 1))
        values, network = min(mine, key=lambda outcome: worst_if_nan(outcome[0][0]))
        results.append(Result(dict(zip(metrics, values, strict=True)), network.cpu(), device=device.type))
    return results


def measure(board: Square, predict: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Of every member the training loss, first, and how it does on the test points. predict: (n, 2) -> (members, n, outputs).

    With two outputs they are a label: the accuracies on both parts; else the MSE on the test points.
    """
    fitted, unseen = predict(board.x_train), predict(board.x_test)
    metrics = {"train_loss": mse(fitted, board.y_train)}
    if board.y_train.shape[1] == 1:
        return metrics | {"test_mse": mse(unseen, board.y_test)}
    accuracies = accuracy(fitted, board.y_train), accuracy(unseen, board.y_test)
    return metrics | dict(zip(("train_accuracy", "test_accuracy"), accuracies, strict=True))


class _BestMember:
    """Metrics of the best member, as fresh as EVALUATE_EVERY."""

    def __init__(self, board: Square) -> None:
        self.board, self.evaluated = board, time.perf_counter()
        self.metrics: dict[str, float] = {}

    def __call__(self, state: TrainingState) -> dict[str, float]:
        if time.perf_counter() - self.evaluated > EVALUATE_EVERY or state.step == state.total:
            metrics = measure(self.board, state.predict)
            if "test_mse" in metrics:
                best = metrics["test_mse"].nan_to_num(math.inf).argmin()
                names = {"train_loss": "best training MSE", "test_mse": "test MSE"}
            else:
                best = metrics["test_accuracy"].argmax()
                names = {"train_accuracy": "best training accuracy", "test_accuracy": "test accuracy"}
            self.metrics = {shown: float(metrics[name][best]) for name, shown in names.items()}
            self.evaluated = time.perf_counter()
        return self.metrics


def select(selection: str, tried: Sequence[Record]) -> Record:
    """Of one net at several rates: "paper" takes the best test accuracy or MSE, "held-out" the lowest training loss."""
    if selection == "paper" and target_of(tried[0].config) == "checkerboard":
        return max(tried, key=lambda record: metric(record, "test_accuracy"))
    name = "test_mse" if selection == "paper" else "train_loss"
    return min(tried, key=lambda record: metric(record, name))


def chosen(selection: str, tried: Iterable[Sequence[Run]], records: Mapping[str, Record]) -> list[Record]:
    """The selected record of each seed. tried: the runs of every seed."""
    return [select(selection, [records[run.key] for run in runs]) for runs in tried]


def mse(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared error.  outputs: (members, n, outputs), y: (n, outputs) -> (members,)."""
    return (outputs - y).square().mean((1, 2))


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """Fraction of points whose mean output is on the side of 1/2 that y says. outputs: (members, n, 2), y: (n, 2)."""
    right = (outputs.mean(-1) > 0.5) == (y.mean(-1) > 0.5)
    return (right & outputs.isfinite().all(-1)).float().mean(-1)  # a net that diverged is right nowhere


def build(config: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of a config, its start fixed by the seed."""
    return build_model(**config["network"], seed=seed, in_features=2, out_features=OUTPUTS[target_of(config)])


def metric(record: Record, name: str) -> float:
    """A metric; one that was not finite counts as the worst loss."""
    value = record.metrics[name]
    return math.inf if value is None else value


def worst_if_nan(loss: float) -> float:
    """For picking the lowest loss."""
    return math.inf if math.isnan(loss) else loss


def finite(value: float) -> float | None:
    """For a table: None instead of what a diverged net gives."""
    return value if math.isfinite(value) else None


def selection_notes(quick: bool) -> list[str]:
    """What the two selections are, for below a table."""
    return [
        f"paper: the rate of {len(QUICK_RATES if quick else RATES)} that is best on the test points, per seed, as in the paper",
        "held-out: the rate with the lowest training loss, per seed; the test points decide nothing",
    ]


def rates_of(records: Sequence[Record]) -> str:
    """The learning rates of some records, as text."""
    return ", ".join(f"{rate:g}" for rate in sorted({Recipe(**record.config["recipe"]).lr for record in records}))


def parameters(model: nn.Module) -> int:
    """How many numbers a net learns; frozen ones do not count."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


COLOURS: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1}
IMAGE: dict[str, Any] = {"origin": "lower", "extent": (-1.0125, 1.0125, -1.0125, 1.0125), **COLOURS}


def grid(values: Tensor) -> Any:
    """Values over the mesh as an image: rows are x2, columns x1."""
    return values.reshape(SIDE, SIDE).T.numpy()
