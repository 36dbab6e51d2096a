"""What the experiments on the square share: nets of a config on a target, ten learning rates, the paper's two selections.

The protocol (section 4): MSE, SGD with momentum 0.9, batch 100, 40,000 iterations, the rate x 0.2 at 1/2, 7/10 and 9/10 of
them; of ten initial rates the best is taken.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from .. import train as training
from ..data.synthetic import SIDE, Square, checkerboard
from ..models.hannet import FCNet, HanNet
from ..runs import Record, Run
from ..train import Recipe
from . import Result, Status

RATES = (0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5)
QUICK_RATES = (0.025, 0.05, 0.1)
QUICK_ITERATIONS = 500
CHECKERBOARD = {"squares": 12, "split_seed": 0}
EVALUATE_EVERY = 3.0  # seconds: the members' accuracies cost more than a training step
CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {"HanNet": HanNet, "FCNet": FCNet}


def run(network: Mapping[str, Any], recipe: Recipe, seed: int, quick: bool, **more: Any) -> Run:
    """A net trained by a recipe. more: what else its config holds, such as restarts."""
    if quick:
        recipe = replace(recipe, iterations=QUICK_ITERATIONS)
    config = {"network": network, "recipe": recipe.differences(), "data": CHECKERBOARD} | more
    return Run("checkerboard" + "-quick" * quick, config, seed)


def at_rates(network: Mapping[str, Any], seed: int, quick: bool, rates: Sequence[float] = RATES) -> list[Run]:
    """A net at every rate; the members of one training."""
    return [run(network, Recipe(lr=rate), seed, quick) for rate in (QUICK_RATES if quick else rates)]


def quick_note() -> str:
    """What to say above the numbers of a quick run."""
    return f"QUICK: {QUICK_ITERATIONS} iterations, {len(QUICK_RATES)} rates: only shows that it works"


def fit(group: Sequence[Run], label: str, on_status: Callable[[Status], None]) -> list[Result]:
    """Train the runs of one group together; a run with restarts is the one of its starts with the lowest training loss."""
    board = checkerboard(**group[0].config["data"])
    starts = [(run, run.seed + 1000 * start) for run in group for start in range(run.config.get("restarts", 1))]
    networks = [build(run.config, seed) for run, seed in starts]
    recipes = [Recipe(**run.config["recipe"]) for run, _ in starts]
    seeds = [seed for _, seed in starts]
    training.train(networks, recipes, seeds, board.x_train, board.y_train, on_progress=_Watch(label, board, on_status))
    fitted, unseen = training.predict(networks, board.x_train), training.predict(networks, board.x_test)
    losses = (fitted - board.y_train).square().mean((1, 2))
    columns = losses, accuracy(fitted, board.y_train), accuracy(unseen, board.y_test)
    outcomes = iter(zip(*(column.tolist() for column in columns), networks, strict=True))
    results: list[Result] = []
    for run in group:
        mine = islice(outcomes, run.config.get("restarts", 1))
        loss, train, test, network = min(mine, key=lambda outcome: worst_if_nan(outcome[0]))
        results.append(Result({"train_loss": loss, "train_accuracy": train, "test_accuracy": test}, network))
    return results


class _Watch:
    """Turns the trainer's progress into a status, with accuracies as fresh as EVALUATE_EVERY."""

    def __init__(self, label: str, board: Square, on_status: Callable[[Status], None]) -> None:
        self.label, self.board, self.on_status = label, board, on_status
        self.evaluated, self.metrics = time.perf_counter(), ""

    def __call__(self, progress: training.Progress) -> None:
        if time.perf_counter() - self.evaluated > EVALUATE_EVERY or progress.step == progress.steps:
            train = accuracy(progress.predict(self.board.x_train), self.board.y_train)
            test = accuracy(progress.predict(self.board.x_test), self.board.y_test)
            best = int(test.argmax())
            self.metrics = f"best member train {100 * train[best]:.1f}%, test {100 * test[best]:.1f}%"
            self.evaluated = time.perf_counter()
        rate = progress.step / progress.seconds if progress.seconds else 0.0
        self.on_status(Status(self.label, progress.step, progress.steps, rate, self.metrics))


def select(selection: str, tried: Sequence[Record]) -> Record:
    """Of one net at several rates: "paper" takes the best test accuracy, "held-out" the lowest training loss."""
    if selection == "paper":
        return max(tried, key=lambda record: metric(record, "test_accuracy"))
    return min(tried, key=lambda record: metric(record, "train_loss"))


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """Fraction of points whose mean output is on the side of 1/2 that y says. outputs: (members, n, 2), y: (n, 2)."""
    right = (outputs.mean(-1) > 0.5) == (y.mean(-1) > 0.5)
    return (right & outputs.isfinite().all(-1)).float().mean(-1)  # a net that diverged is right nowhere


def build(config: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of a config, its start fixed by the seed."""
    network = dict(config["network"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CONSTRUCTORS[network.pop("kind")](2, 2, **network)


def metric(record: Record, name: str) -> float:
    """A metric; one that was not finite counts as the worst loss."""
    value = record.metrics[name]
    return math.inf if value is None else value


def worst_if_nan(loss: float) -> float:
    """For picking the lowest loss."""
    return math.inf if math.isnan(loss) else loss


def parameters(model: nn.Module) -> int:
    """How many numbers a net learns."""
    return sum(parameter.numel() for parameter in model.parameters())


COLOURS: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1}
IMAGE: dict[str, Any] = {"origin": "lower", "extent": (-1.0125, 1.0125, -1.0125, 1.0125), **COLOURS}


def grid(values: Tensor) -> Any:
    """Values over the mesh as an image: rows are x2, columns x1."""
    return values.reshape(SIDE, SIDE).T.numpy()
