"""How long does it take to fit the paper's HanNet 20x200 to a table, against the same net in eager PyTorch?

    python benchmarks/fit.py [--threads 2] [--out hannet-results/benchmarks]

Rows: 80% of bikesharing, batch 100, Adam. Epochs are timed in turn, round after round; medians and their ratios are printed
and appended to a record. All epochs are the same work, so the ratio of one is that of 300. Takes about two minutes; run it
with nothing else running.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

import hannet
from hannet import runs
from hannet.data.regression import regression, standardise
from hannet.recipes import Recipe
from hannet.train import train
from stack import Apply, Eager, compare

WIDTH, DEPTH, BATCH = 200, 20, 100


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of every candidate")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began = perf_counter()
    metrics = epochs()
    for name, value in metrics.items():
        print(f"{name:>60}  {value:.4g}")
    run = runs.Run("benchmark fit", {"threads": arguments.threads, "width": WIDTH, "depth": DEPTH, "batch": BATCH}, 0)
    runs.Store(arguments.out).append([runs.Record.of(run, metrics, perf_counter() - began)])


def epochs() -> dict[str, float]:
    """Seconds of an epoch, and how many times as long the others take."""
    table = regression("bikesharing")
    x, y = standardise(table.x), torch.from_numpy(table.y).float()[:, None]
    taught = torch.randperm(len(x))[: int(0.8 * len(x))]
    x, y = x[taught], y[taught]
    steps = len(x) // BATCH
    recipe = Recipe(lr=1e-3, optimizer="adam", schedule="constant", batch=BATCH, iterations=steps)

    def loop(net: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

        def epoch() -> None:
            for rows in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
                optimizer.step()

        return epoch

    nets = [hannet.HanNet(x.shape[1], 1, WIDTH, DEPTH) for _ in range(5)]
    same, eager = (hannet.HanNet(x.shape[1], 1, WIDTH, DEPTH) for _ in range(2))
    eager.layers[1], eager.layers[2] = Apply(nn.Identity(), torch.abs), Eager(WIDTH, DEPTH - 1)
    times = compare(
        {
            "hannet.train": lambda: train(nets[:1], [recipe], [0], x, y),
            "hannet.train, five nets side by side": lambda: train(nets, [recipe] * 5, range(5), x, y),
            "HanNet in a PyTorch loop": loop(same),
            "eager": loop(eager),
        },
        seconds=12.0,
    )
    times["hannet.train, each of five nets"] = times.pop("hannet.train, five nets side by side") / 5
    return {f"{name}, s an epoch": seconds for name, seconds in times.items()} | {
        f"eager over {name}": times["eager"] / seconds for name, seconds in times.items() if name != "eager"
    }


if __name__ == "__main__":
    main()
