"""Does anything break a certificate, and how far above the largest slope is a Lipschitz bound?

    python benchmarks/trust/soundness.py [--models FOLDER] [--nets 20] [--points 2000] [--quick] [--out hannet-results/trust]

A trial is one point, certified with a radius above 0, attacked at that radius: by PGD of 40 steps on the cross entropy and on the
margin, by CW of 50 steps, along the axes and the gradients of all margins, and by a search of 100 steps, --points of each net; and
by a search of 2,000 steps, --searched in all, of some nets of each kind.
The nets are --nets small ones trained here, as many random 1-Lipschitz HanNets of 1 to 32 reflections, and as many that are made
to be hard (huge and tiny norms, u of zero, equal and nearly equal logits, biases that cancel, depth), each in float64 and in
float32; a third of the points lie so near to the border of two classes that their radius is tiny. With --models also the
networks saved in its subfolders, on test images of MNIST. A point is broken if a point within its radius, as measured in
float64, has another class. The slopes are the Jacobians' norms at points found by climbing from many starts, in float64.
Prints what was tried and appends a record; exits with 1 if anything was broken. A million trials take a few minutes.
"""

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

import hannet
from hannet.attacks import CW, PGD, attack, search
from hannet.certify import certified_radius, lipschitz_bound
from hannet.data import images
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.layers.activations import Abs
from hannet.layers.han import HanStack
from hannet.models import registry
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

NETS, ARCHITECTURES = 20, 5
IMAGES = 10  # of a saved network for the searches
ATTACKS = {
    "PGD, 40 steps": PGD("l2", 1.0, 40),
    "PGD on the margin, 40 steps": PGD("l2", 1.0, 40, loss="margin"),
    "CW, 50 steps": CW(10.0, 50, 0.02),
}
CONTROL = "PGD on the margin, 40 steps"  # tried at twice the radius too, to see that it does break what it can
LINES, SHORT, LONG = "along axes and gradients", "search, 100 steps", "search, 2,000 steps"
DTYPES = (torch.float64, torch.float32)
FARTHEST = 1e12  # a larger radius is tried only so far: what is to be found there is overflow


def main() -> None:
    """Train, certify, attack, climb, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of folders that save_pretrained wrote, for images of MNIST")
    parser.add_argument("--nets", type=int, default=NETS, help="trained nets, and as many random and hard ones")
    parser.add_argument("--points", type=int, default=2000, help="points of each net")
    parser.add_argument("--searched", type=int, default=300, help="points for the long search")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few points of two nets of each kind")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/trust"), help="folder of the record")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.nets, arguments.points, arguments.searched = 2, 20, 0
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    began = perf_counter()
    trained = [trained_net(seed) for seed in range(arguments.nets)]
    ratios = [lipschitz_bound(net) / steepest(net, x) for net, x in trained]
    drawn = [random_net(seed) for seed in range(arguments.nets)]
    hard = [hard_net(name) for _, name in zip(range(arguments.nets), cycle(HARD), strict=False)]
    saved = list(saved_nets(arguments.models)) if arguments.models else []
    long = 2 * min(ARCHITECTURES, len(trained)) + min(len(HARD), len(hard))
    each = -(-arguments.searched // (len(DTYPES) * long))
    cases = [("trained", *case, each * (index < ARCHITECTURES)) for index, case in enumerate(trained)]
    cases += [("random", *case, each * (index < ARCHITECTURES)) for index, case in enumerate(drawn)]
    cases += [("hard", *case, each * (index < len(HARD))) for index, case in enumerate(hard)]
    cases += [("saved", *case, IMAGES) for case in saved]
    counts: Counter[tuple[str, ...]] = Counter()
    for kind, net, x, searched in cases:
        for dtype in DTYPES:
            points = with_near_ones(net, x[: arguments.points])
            counts.update(tried(kind, copy.deepcopy(net).to(dtype), points.to(dtype), searched))
        progress(counts, perf_counter() - began)
    finish(arguments, counts, ratios, len(saved), perf_counter() - began)


def finish(
    arguments: argparse.Namespace, counts: Counter[tuple[str, ...]], ratios: list[float], saved: int, seconds: float
) -> None:
    """Print the table, append the record, exit."""
    metrics = {"trials": 0.0, "broken": 0.0}
    print(f"\n{'attack':<30}{'nets':<10}{'in':<10}{'trials':>10}{'broken':>8}{'at twice the radius':>21}")
    for name, kind, dtype in sorted({key[:3] for key in counts}):
        tries, broken = (counts[name, kind, dtype, what] for what in ("trials", "broken"))
        twice = counts.get((name, kind, dtype, "twice"))
        print(f"{name:<30}{kind:<10}{dtype:<10}{tries:>10,}{broken:>8,}{'' if twice is None else f'{twice:,}':>21}")
        metrics |= {} if twice is None else {f"{name}, {kind}, {dtype}: broken at twice the radius": twice}
        metrics |= {f"{name}, {kind}, {dtype}: trials": tries, f"{name}, {kind}, {dtype}: broken": broken}
        metrics["trials"] += tries
        metrics["broken"] += broken
    spread = {"smallest": min(ratios), "median": median(ratios), "largest": max(ratios)}
    metrics |= {f"Lipschitz bound over steepest slope: {name}": value for name, value in spread.items()}
    print(f"{metrics['trials']:,.0f} trials, {metrics['broken']:,.0f} broken; {seconds:,.0f} s")
    print(f"Lipschitz bound over the steepest slope of {len(ratios)} nets: ", end="")
    print(", ".join(f"{name} {value:.4f}" for name, value in spread.items()))
    config = {name: getattr(arguments, name) for name in ("nets", "points", "searched", "threads")} | {"saved": saved}
    run = Run("trust soundness", config, arguments.seed)
    store.Store(arguments.out).append([Record.of(run, metrics, seconds)])
    sys.exit(metrics["broken"] > 0 or min(ratios) < 1)


def progress(counts: Counter[tuple[str, ...]], seconds: float) -> None:
    """One line for each net."""
    tries, broken = (sum(count for key, count in counts.items() if key[3] == what) for what in ("trials", "broken"))
    print(f"{seconds:7.0f} s {tries:>9,} trials {broken:>4,} broken", flush=True)


def trained_net(seed: int) -> tuple[nn.Module, Tensor]:
    """A small random classifier, trained on classes that a random net of another kind gives, and 4,096 points, in float64."""
    torch.manual_seed(seed)
    inputs, classes, width, depth = (
        int(torch.randint(low, high, ())) for low, high in ((2, 9), (2, 6), (8, 17), (2, 7))
    )
    x = torch.randn(4096, inputs)
    with torch.no_grad():
        y = nn.Sequential(nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, classes))(3 * x).argmax(1)
    kinds: list[Callable[[], nn.Module]] = [
        lambda: hannet.HanNet(inputs, classes, width, depth, lipschitz=True),
        lambda: hannet.HanNet(inputs, classes, width, depth, lipschitz=True, reflections=2 ** (seed // 5 % 6)),
        lambda: hannet.HanNet(inputs, classes, width, depth),
        lambda: hannet.FCNet(inputs, classes, width, depth),
        lambda: hannet.FCNet(inputs, classes, 2 * width, depth, activation="maxmin"),
    ]
    net = kinds[seed % ARCHITECTURES]()
    losses = ({"loss": "cross_entropy", "temperature": 0.1}, {"loss": "multi_margin"}, {"loss": "hkr"})
    recipe = Recipe(lr=0.01, optimizer="adam", iterations=400, **losses[seed // ARCHITECTURES % len(losses)])
    train([net], [recipe], [seed], x, nn.functional.one_hot(y, classes).float())
    return net.double().eval(), x.double()


def random_net(seed: int) -> tuple[nn.Module, Tensor]:
    """A 1-Lipschitz HanNet as it is drawn, but for biases, and 4,096 points, in float64."""
    torch.manual_seed(seed)
    inputs, classes, width, depth = (
        int(torch.randint(low, high, ())) for low, high in ((1, 65), (2, 11), (2, 65), (1, 9))
    )
    wide = max(width, inputs, classes)
    net = hannet.HanNet(inputs, classes, wide, depth, lipschitz=True, reflections=1 + seed % 32)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("b", "bias")):
                parameter.copy_(torch.randn_like(parameter))
    return net.double().eval(), 10.0 ** (seed % 5 - 2) * torch.randn(4096, inputs).double()


@torch.no_grad()
def with_near_ones(net: nn.Module, x: Tensor) -> Tensor:
    """The points, a third of them moved to where two classes meet: halfway, again and again, to a point of another class."""
    near = x[::3].clone()
    other = x.roll(1, 0)[::3].clone()
    first = net(near).argmax(1)
    for _ in range(40):
        middle = (near + other) / 2
        same = (net(middle).argmax(1) == first)[:, None]
        near, other = middle.where(same, near), other.where(same, middle)
    share = torch.logspace(-12, -1, len(near)).double()[:, None]
    return torch.cat([x[1::3], x[2::3], near + share * (x[::3] - near)])


def hard_net(name: str) -> tuple[nn.Module, Tensor]:
    """A random net that is made to be hard, and 4,096 points, in float64."""
    width = int(torch.randint(6, 20, ()))
    depth = 200 if name == "depth" else int(torch.randint(2, 9, ()))
    net = nn.Sequential(nn.Linear(4, width), Abs(), HanStack(width, depth), nn.Linear(width, 3)).requires_grad_(False)
    HARD[name](net)
    return net.double(), torch.randn(4096, 4).double()


def scale(net: nn.Sequential, factor: float) -> None:
    """Multiply what is linear."""
    for p in (*net[0].parameters(), *net[3].parameters()):
        p.mul_(factor)


def rows_alike(net: nn.Sequential, apart: float) -> None:
    """Logits that differ by little."""
    net[3].weight.copy_(net[3].weight[:1] + apart * net[3].weight)
    net[3].bias.copy_(net[3].bias[:1] + apart * net[3].bias)


def cancelling(net: nn.Sequential) -> None:
    """Biases that take back what the layer before added, and with it the digits of what came in."""
    net[2].u.zero_()
    net[2].b[0::2], net[2].b[1::2] = 300.0, -300.0


def one_input(net: nn.Sequential) -> None:
    """A net of one direction, whose bound is nearly reached: no ABS folds."""
    net[0].weight[:, 1:].zero_()
    net[0].weight.abs_()
    net[2].u.zero_()


HARD: dict[str, Callable[[nn.Sequential], object]] = {
    "huge norms": lambda net: scale(net, 1e8),
    "tiny norms": lambda net: scale(net, 1e-8),
    "huge rows beside tiny ones": lambda net: net[0].weight.mul_(torch.logspace(-6, 6, len(net[0].weight))[:, None]),
    "u of zero": lambda net: net[2].u.zero_(),
    "tiny u": lambda net: net[2].u.mul_(1e-30),
    "huge u": lambda net: net[2].u.mul_(1e30),
    "nearly equal logits": lambda net: rows_alike(net, 1e-5),
    "equal rows, unequal biases": lambda net: net[3].weight.copy_(net[3].weight[:1].expand(3, -1)),
    "all but one row equal": lambda net: net[3].weight[1:].copy_(net[3].weight[:1].expand(2, -1)),
    "huge biases": lambda net: net[2].b.mul_(1e6),
    "biases that cancel": cancelling,
    "one input": one_input,
    "depth": lambda _: None,
}


def saved_nets(folder: Path) -> Iterator[tuple[nn.Module, Tensor]]:
    """The networks in a folder's folders, and images of MNIST as they take them."""
    x = images.mnist("test").x.flatten(1).double() / 255
    for path in sorted(folder.glob("*/config.json")):
        yield registry.load(path.parent).double(), x


class Around(nn.Module):
    """A net as a function of steps from given points, each in units of its radius: one attack then serves all radii."""

    def __init__(self, net: nn.Module, centres: Tensor, radii: Tensor):
        super().__init__()
        self.net, self.centres, self.radii = net, centres, radii[:, None]

    def points(self, steps: Tensor) -> Tensor:
        """Where the steps lead."""
        return self.centres + self.radii * steps

    def forward(self, steps: Tensor) -> Tensor:
        """The logits there."""
        return self.net(self.points(steps))


def tried(kind: str, net: nn.Module, x: Tensor, searched: int) -> Counter[tuple[str, ...]]:
    """Trials and broken points of one net by attack: every attack on all points, the long search on some."""
    net.requires_grad_(False)
    radius = certified_radius(net, x)
    x, radius = x[radius > 0], radius[radius > 0].clamp_max(FARTHEST)
    counts: Counter[tuple[str, ...]] = Counter()
    if not len(x):
        return counts
    y = net(x).argmax(1)
    finfo = torch.finfo(x.dtype)
    within = (radius * (1 - 4 * finfo.eps)).to(x.dtype)  # so that rounding leads nobody outside
    around = Around(net, x, within)

    def count(name: str, points: Tensor, success: Tensor) -> None:
        there = (points.double() - x[: len(points)].double()).norm(dim=1) <= radius[: len(points)]
        what = name, kind, str(x.dtype).removeprefix("torch.")
        counts[*what, "trials"] += len(points)
        counts[*what, "broken"] += int((success & there).sum())

    for name, method in ATTACKS.items():
        found = attack(around, torch.zeros_like(x), y, method, bounds=(-2.0, 2.0), batch=len(x))
        count(name, around.points(found.x), found.success)
    found = attack(
        Around(net, x, 2 * within), torch.zeros_like(x), y, ATTACKS[CONTROL], bounds=(-2.0, 2.0), batch=len(x)
    )
    counts[CONTROL, kind, str(x.dtype).removeprefix("torch."), "twice"] += int(found.success.sum())
    count(LINES, *along_lines(net, x, y, within))
    for name, some, steps in ((SHORT, len(x) if kind != "saved" else IMAGES, 100), (LONG, searched, 2_000)):
        if some:
            found = search(net, x[:some], y[:some], within[:some], steps)
            count(name, found.x, found.success)
    return counts


def along_lines(net: nn.Module, x: Tensor, y: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """For each row a point at the radius, and whether it has another class: on an axis, or along a gradient of a margin."""
    directions = [sign * axis.expand_as(x) for axis in torch.eye(x.shape[1]).to(x) for sign in (1, -1)]
    point = x.clone().requires_grad_()
    logits = net(point)
    for j in range(logits.shape[1]):
        margin = (logits[:, j] - logits.gather(1, y[:, None])[:, 0]).sum()
        (gradient,) = torch.autograd.grad(margin, point, retain_graph=True)
        directions.append(gradient / gradient.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny))
    found, broken = x.clone(), torch.zeros(len(x), dtype=torch.bool)
    for direction in directions:
        tried_points = x + radius[:, None] * direction
        with torch.no_grad():
            wrong = net(tried_points).argmax(1) != y
        found, broken = tried_points.where(wrong[:, None], found), broken | wrong
    return found, broken


def steepest(net: nn.Module, x: Tensor, starts: int = 256, rounds: int = 60) -> float:
    """The largest slope that a climb finds: the steepest of many points moves by ever smaller random steps."""
    jacobians = torch.func.vmap(torch.func.jacrev(net))
    best = x[:starts] * torch.logspace(-1, 1, starts).double()[:, None]
    slopes = torch.linalg.matrix_norm(jacobians(best), 2)
    for turn in range(rounds):
        moved = best + 3 * 0.9**turn * torch.randn_like(best)
        there = torch.linalg.matrix_norm(jacobians(moved), 2)
        best, slopes = best.where((there <= slopes)[:, None], moved), slopes.maximum(there)
    return float(slopes.detach().max())


if __name__ == "__main__":
    main()
