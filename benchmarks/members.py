"""How much faster do ten learning rates train side by side, as members, than one after another?

    python benchmarks/members.py [--threads 2] [--out hannet-results/benchmarks]

Steps of batch 100 on points of the square. Both ways are timed in turn, round after round; medians and their ratios are printed
and appended to a record, with the largest difference between the outputs of the nets that the two ways give. Takes about
two minutes; run it with nothing else running.
"""

import argparse
from pathlib import Path
from time import perf_counter

import torch

from hannet.data.synthetic import checkerboard
from hannet.experiments import store
from hannet.experiments.paper._board import build
from hannet.experiments.record import Record, Run
from hannet.train.recipe import Recipe
from hannet.train.trainer import predict, train
from stack import compare

NETWORKS = {
    "HanNet 100x20": {"kind": "HanNet", "width": 100, "depth": 20},
    "HanNet 100x20, dense ends": {"kind": "HanNet", "width": 100, "depth": 20, "dense_ends": True},
    "HanNet 20x8": {"kind": "HanNet", "width": 20, "depth": 8},
    "FCNet 100x6": {"kind": "FCNet", "width": 100, "depth": 6},
    "FCNet 100x20": {"kind": "FCNet", "width": 100, "depth": 20},
    "FCNet 20x8": {"kind": "FCNet", "width": 20, "depth": 8},
} | {
    f"Householder + {activation} 100x20": {
        "kind": "ablation", "width": 100, "depth": 20, "layers": "householder", "activation": activation
    }
    for activation in ("relu", "groupsort5")
}  # fmt: skip
RATES = torch.linspace(0.0005, 0.005, 10).tolist()
STEPS = 50


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of both ways")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began, metrics = perf_counter(), {}
    for label, network in NETWORKS.items():
        ratio, difference = side_by_side(network)
        print(f"{label:>32}: {ratio:5.2f} times as fast, outputs differ by at most {difference:.1g}", flush=True)
        metrics |= {f"{label}: apart over together": ratio, f"{label}: largest difference": difference}
    run = Run("benchmark members", {"threads": arguments.threads, "networks": NETWORKS, "rates": RATES}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])


def side_by_side(network: dict[str, object]) -> tuple[float, float]:
    """Time of ten runs apart over that of their members together, and the largest difference between their outputs."""
    square = checkerboard()
    recipes = [Recipe(lr=rate, iterations=STEPS) for rate in RATES]

    def train_all(*, together: bool) -> list[torch.nn.Module]:
        networks = [build({"network": network}, 0) for _ in RATES]
        if together:
            train(networks, recipes, [0] * len(RATES), square.x_train, square.y_train)
            return networks
        for one, recipe in zip(networks, recipes, strict=True):
            train([one], [recipe], [0], square.x_train, square.y_train)
        return networks

    times = compare(
        {"together": lambda: train_all(together=True), "apart": lambda: train_all(together=False)}, seconds=8
    )
    outputs = [predict(train_all(together=together), square.x_test) for together in (True, False)]
    return times["apart"] / times["together"], float((outputs[0] - outputs[1]).abs().max())


if __name__ == "__main__":
    main()
