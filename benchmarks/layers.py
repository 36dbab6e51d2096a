"""Which layer when: accuracy, bytes and time of Linear, low rank, orthogonal and Han-layers in the same place.

    python benchmarks/layers.py [--only digits,speed] [--threads 1] [--out hannet-results/benchmarks]

`digits`: scikit-learn's digits, Linear(64, width), four layers of a kind, Linear(width, 10); Adam with a cosine schedule, 20 epochs, the
rate chosen for each kind and split on a fifth of its training rows; mean and standard deviation over five splits of 1,000 training rows.
`speed`: four layers of a kind, width 512, processor time as a multiple of Linear + ReLU, medians of rounds that alternate.
Takes about ten minutes.
"""

from collections.abc import Callable
from functools import partial
from statistics import mean, stdev

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

import hannet
from stack import ask, forward_backward, parser_of, ratio

DEPTH, WIDTH, SMALL, EPOCHS, BATCH = 4, 128, 43, 20, 50
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
TRAINING, SPLITS = 1000, range(5)
Layers = Callable[[int], nn.Module]


def alternating(layer: Callable[[int], nn.Module], activation: type[nn.Module]) -> Layers:
    """DEPTH layers of a width, each followed by the activation."""
    return lambda width: nn.Sequential(*(part for _ in range(DEPTH) for part in (layer(width), activation())))


KINDS: dict[str, Layers] = {
    "Linear + ReLU": alternating(lambda width: nn.Linear(width, width), nn.ReLU),
    "Linear + abs": alternating(lambda width: nn.Linear(width, width), hannet.Abs),
    "rank 8 + ReLU": alternating(lambda d: nn.Sequential(nn.Linear(d, 8, bias=False), nn.Linear(8, d)), nn.ReLU),
    "orthogonal + abs": alternating(lambda width: orthogonal(nn.Linear(width, width)), hannet.Abs),
    "HanLinear(4) + ReLU": alternating(lambda width: hannet.HanLinear(width, width, reflections=4), nn.ReLU),
    "Han-layers of 8": lambda width: hannet.HanStack(width, DEPTH, reflections=8),
    "Han-layers": lambda width: hannet.HanStack(width, DEPTH),
}
DENSE = ("Linear + ReLU", "Linear + abs")


def network(kind: str, width: int, seed: int) -> nn.Module:
    """Linear, the layers, Linear."""
    torch.manual_seed(seed)
    activation = hannet.Abs() if "Han-layers" in kind or "abs" in kind else nn.ReLU()
    return nn.Sequential(nn.Linear(64, width), activation, KINDS[kind](width), nn.Linear(width, 10))


def split(seed: int, *, searching: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows to train on and rows to measure on: for the search a fifth of the former."""
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = torch.tensor(x / 16, dtype=torch.float32)[order], torch.tensor(y)[order]
    ends = (TRAINING * 4 // 5, TRAINING) if searching else (TRAINING, len(x))
    return x[: ends[0]], y[: ends[0]], x[slice(*ends)], y[slice(*ends)]


def accuracy(kind: str, width: int, rate: float, seed: int, *, searching: bool = False) -> float:
    """In per cent, of a net trained from scratch."""
    x, y, x_test, y_test = split(seed, searching=searching)
    net = network(kind, width, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    total = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for _ in range(total):
        rows = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return 100 * (net(x_test).argmax(1) == y_test).double().mean().item()


def digits() -> dict[str, float]:
    """Accuracy on digits, and the parameters of the layers between the first and the last Linear."""
    found = {}
    for kind, width in [*((kind, WIDTH) for kind in KINDS), *((kind, SMALL) for kind in DENSE)]:
        label = kind if width == WIDTH else f"{kind}, width {width}"
        rates = [max(RATES, key=lambda rate: accuracy(kind, width, rate, seed, searching=True)) for seed in SPLITS]
        tested = [accuracy(kind, width, rate, seed) for rate, seed in zip(rates, SPLITS, strict=True)]
        net = network(kind, width, 0)
        found |= {f"{label}: rate, split {seed}": rate for rate, seed in zip(rates, SPLITS, strict=True)}
        found |= {f"{label}: accuracy": mean(tested), f"{label}: std": stdev(tested)}
        found |= {f"{label}: layers": count(net[2]), f"{label}: parameters": count(net)}
        print(f"{label:>26}: {mean(tested):.2f}% ({stdev(tested):.2f}) at {rates}", flush=True)
    return found


def count(net: nn.Module) -> float:
    """Parameters."""
    return float(sum(p.numel() for p in net.parameters()))


def speed() -> dict[str, float]:
    """Processor time over that of Linear + ReLU: a training step on 256 rows, and forward passes on 256 rows and on one."""
    found = {}
    x = torch.randn(256, 512)
    step = partial(forward_backward, x=x.clone().requires_grad_(), gradient=torch.randn_like(x))
    dense = KINDS["Linear + ReLU"](512)
    for kind, make in KINDS.items():
        if kind in DENSE:
            continue
        net = make(512)
        found[f"{kind}: training"] = ratio(step(net), step(dense))
        for module in net.modules():
            if is_parametrized(module):  # training is over: what it computed becomes a weight
                remove_parametrizations(module, "weight")
        for rows in (256, 1):
            found[f"{kind}: rows {rows}"] = ratio(without_gradient(net, x[:rows]), without_gradient(dense, x[:rows]))
    return found


def without_gradient(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """A forward pass, as in use."""

    @torch.no_grad()
    def run() -> None:
        net(x)

    return run


def main() -> None:
    """Ask all questions, or some."""
    questions = {"digits": digits, "speed": speed}
    parser = parser_of(__doc__, questions)
    parser.set_defaults(threads=1)
    ask("layers", questions, parser.parse_args(), depth=DEPTH, width=WIDTH, epochs=EPOCHS)


if __name__ == "__main__":
    main()
