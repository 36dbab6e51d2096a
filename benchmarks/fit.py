"""How long does it take to fit the paper's HanNets to real data, against the same nets in eager PyTorch?

    python benchmarks/fit.py [--only bikesharing,mnist] [--threads 2] [--out hannet-results/benchmarks]

HanNet 20x200 on 80% of bikesharing (batch 100), and 20 Han-layers of width 784 on 10,000 images of MNIST (batch 256), both by
Adam. Epochs are timed in turn, round after round; medians and their ratios are printed and appended to a record. All epochs
are the same work, so the ratio of one is that of 300. Takes about five minutes; run it with nothing else running.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hannet
from hannet.data.regression import regression, standardise
from hannet.experiments import store
from hannet.experiments.paper import _mnist
from hannet.experiments.record import Record, Run
from hannet.train.recipe import Recipe
from hannet.train.trainer import train
from stack import Apply, Eager, compare


class Case(NamedTuple):
    """Data, how to build our net and the same one in eager PyTorch, how to train, and the loss of the loop."""

    x: Tensor
    y: Tensor
    net: Callable[[], nn.Module]
    eager: Callable[[], nn.Module]
    recipe: Recipe
    loss: Callable[[Tensor, Tensor], Tensor]


def bikesharing() -> Case:
    """HanNet 20x200 on 80% of the rows, as in Table 9."""
    table = regression("bikesharing")
    x, y = standardise(table.x), torch.from_numpy(table.y).float()[:, None]
    taught = torch.randperm(len(x))[: int(0.8 * len(x))]

    def net() -> nn.Module:
        return hannet.HanNet(x.shape[1], 1, 200, 20)

    def eager() -> nn.Module:
        made = hannet.HanNet(x.shape[1], 1, 200, 20)
        made.layers[1], made.layers[2] = Apply(nn.Identity(), torch.abs), Eager(200, 19)
        return made

    recipe = Recipe(lr=1e-3, optimizer="adam", schedule="constant", batch=100)
    return Case(x[taught], y[taught], net, eager, recipe, F.mse_loss)


def digits() -> Case:
    """20 Han-layers on 10,000 images, as in Figure 8."""
    train_part = _mnist.digits(_mnist.FEW, "train")

    def eager() -> nn.Module:
        return nn.Sequential(Eager(_mnist.PIXELS, 20), nn.Linear(_mnist.PIXELS, _mnist.CLASSES))

    y = F.one_hot(train_part.y, _mnist.CLASSES).float()
    return Case(train_part.x, y, lambda: _mnist.han_classifier(20), eager, _mnist.PROTOCOL, F.cross_entropy)


CASES = {"bikesharing": bikesharing, "mnist": digits}


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=2, help="threads of every candidate")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.only.split(",") if name not in CASES]:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    torch.set_num_threads(arguments.threads)
    for name in arguments.only.split(","):
        began = perf_counter()
        print(f"{name}: {CASES[name].__doc__}", flush=True)
        metrics = epochs(CASES[name]())
        for what, value in metrics.items():
            print(f"{what:>60}  {value:.4g}")
        run = Run(f"benchmark fit: {name}", {"threads": arguments.threads}, 0)
        store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])


def epochs(case: Case) -> dict[str, float]:
    """Seconds of an epoch, and how many times as long the others take."""
    x, y, batch = case.x, case.y, case.recipe.batch
    steps = len(x) // batch
    recipe = replace(case.recipe, iterations=steps)

    def loop(net: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

        def epoch() -> None:
            for rows in torch.randperm(len(x))[: steps * batch].split(batch):
                optimizer.zero_grad(set_to_none=True)
                case.loss(net(x[rows]), y[rows]).backward()
                optimizer.step()

        return epoch

    nets = [case.net() for _ in range(5)]
    times = compare(
        {
            "hannet.train.trainer": lambda: train(nets[:1], [recipe], [0], x, y),
            "hannet.train, five nets side by side": lambda: train(nets, [recipe] * 5, range(5), x, y),
            "our net in a PyTorch loop": loop(case.net()),
            "eager": loop(case.eager()),
        },
        seconds=12.0,
    )
    times["hannet.train, each of five nets"] = times.pop("hannet.train, five nets side by side") / 5
    return {f"{name}, s an epoch": seconds for name, seconds in times.items()} | {
        f"eager over {name}": times["eager"] / seconds for name, seconds in times.items() if name != "eager"
    }


if __name__ == "__main__":
    main()
