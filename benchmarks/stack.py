"""How fast is a stack of Han-layers on the CPU, against what one would use instead?

    python benchmarks/stack.py [--only sizes,step,...] [--threads 2] [--out hannet-results/benchmarks]

Candidates are timed in turn, round after round, so that a busy machine slows all of them; medians and their ratios are
printed and appended to a record. Takes about 15 minutes, most of it torch.compile. Run it with nothing else running.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

import hannet
from hannet.experiments import store as runs
from hannet.experiments.record import Record, Run
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

SIZES = [(100, 100, 20), (100, 200, 20), (256, 784, 20), (4096, 512, 20), (1024, 512, 200)]
COMPILED_LAYERS = 20  # torch.compile unrolls the layers: 200 of them keep it busy for many minutes


class Eager(nn.Module):
    """The equation, layer by layer, as one would write it."""

    def __init__(self, features: int, depth: int):
        super().__init__()
        stack = hannet.HanStack(features, depth)
        self.u, self.b = (nn.ParameterList([*p.detach()]) for p in (stack.u, stack.b))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, features) -> (batch, features)."""
        for u, b in zip(self.u, self.b, strict=True):
            v = u / u.norm()
            x = (x - 2 * (x @ v).unsqueeze(-1) * v + b).abs()
        return x


def dense(features: int, depth: int) -> nn.Module:
    """Linear + ReLU of the same width and depth."""
    return nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(features, features), nn.ReLU())))


def full_orthogonal(features: int, depth: int) -> nn.Module:
    """A full orthogonal matrix a layer, from PyTorch's own parametrization, and ABS."""
    layers = (orthogonal(nn.Linear(features, features), orthogonal_map="householder") for _ in range(depth))
    return nn.Sequential(*(m for layer in layers for m in (layer, hannet.Abs())))


def forward_backward(net: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    """One forward and backward pass, gradients of the input and of all parameters."""

    def run() -> None:
        net.zero_grad(set_to_none=True)
        x.grad = None
        net(x).backward(gradient)

    return run


def compare(candidates: dict[str, Callable[[], object]], seconds: float = 4.0, burst: float = 0.2) -> dict[str, float]:
    """Median seconds of each candidate. They take turns in bursts, each long enough to find its memory and caches as in training."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    end = time.perf_counter() + seconds * len(candidates)
    while time.perf_counter() < end or len(times[next(iter(times))]) < 5:
        for name, run in candidates.items():
            stop = time.perf_counter() + burst
            while (start := time.perf_counter()) < stop:
                run()
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def ratio(ours: Callable[[], None], other: Callable[[], None], rounds: int = 15) -> float:
    """Median of paired rounds: processor time of ours over that of the other; a round takes each often enough to be measured."""
    for run in (ours, other):
        run()  # which compiles
    counts = [max(1, int(0.05 / max(timed(run, 1), 1e-6))) for run in (ours, other)]
    found = []
    for _ in range(rounds):
        one, two = (timed(run, count) for run, count in zip((ours, other), counts, strict=True))
        found.append(one / two)
    return median(found)


def timed(run: Callable[[], None], count: int) -> float:
    """Seconds of the processor for one of `count` runs."""
    start = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - start) / count


def sizes() -> dict[str, float]:
    """HanStack forward and backward against the alternatives; ratios, larger is better for HanStack."""
    found = {}
    for batch, width, depth in SIZES:
        x, gradient = torch.randn(batch, width, requires_grad=True), torch.randn(batch, width)
        nets: dict[str, nn.Module] = {"HanStack": hannet.HanStack(width, depth), "eager": Eager(width, depth)}
        if depth <= COMPILED_LAYERS:
            nets["compile"] = torch.compile(Eager(width, depth))
        nets["Linear+ReLU"] = dense(width, depth)
        nets["orthogonal"] = full_orthogonal(width, depth)
        times = compare({name: forward_backward(net, x, gradient) for name, net in nets.items()})
        row = {
            f"{batch}x{width}x{depth} {name}": t / times["HanStack"] for name, t in times.items() if name != "HanStack"
        }
        activation = times["HanStack"] / (batch * width * depth)
        print(
            f"  {batch, width, depth}: HanStack {times['HanStack'] * 1e6:.0f} us, {activation * 1e9:.3f} ns an activation"
        )
        found |= row
    return found


def one_linear() -> dict[str, float]:
    """HanStack(100, 20) at batch 100 against one Linear(100, 100) + abs: time of the stack over time of the layer."""
    x, gradient = torch.randn(100, 100, requires_grad=True), torch.randn(100, 100)
    layer = nn.Linear(100, 100)
    times = compare(
        {
            "HanStack": forward_backward(hannet.HanStack(100, 20), x, gradient),
            "Linear": forward_backward(nn.Sequential(layer, hannet.Abs()), x, gradient),
            "Linear, torch.abs": forward_backward(Apply(layer, torch.abs), x, gradient),
        }
    )
    return {"over Linear + abs": times["HanStack"] / times["Linear, torch.abs"]}


class Apply(nn.Module):
    """A layer, then a function."""

    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in) -> (batch, out)."""
        return self.function(self.layer(x))


def step() -> dict[str, float]:
    """A training step of HanNet 100x20 at batch 100, optimizer included: eager PyTorch over our training loop, and over ours in its."""
    x, y = torch.rand(1640, 2) * 2 - 1, torch.rand(1640, 2)
    steps = 100

    def training(net: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

        def run() -> None:
            for rows in torch.randint(len(x), (steps, 100)):
                optimizer.zero_grad(set_to_none=True)
                nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
                optimizer.step()

        return run

    ours, same, eager = (hannet.HanNet(2, 2) for _ in range(3))
    eager.layers[1] = Apply(nn.Identity(), torch.abs)
    eager.layers[2] = Eager(100, 19)
    recipe = Recipe(lr=0.01, iterations=steps)
    times = compare(
        {
            "hannet.train.trainer": lambda: train([ours], [recipe], [0], x, y),
            "HanNet in a PyTorch loop": training(same),
            "eager": training(eager),
        }
    )
    return {f"eager over {name}": times["eager"] / t for name, t in times.items() if name != "eager"}


def memory() -> dict[str, float]:
    """Peak memory of a training step at depth 1000, width 256, batch 1024, less that of the idle process; in new processes."""
    peaks = steps_of(__file__, ["hannet.HanStack", "Eager"])
    return {"eager over HanStack": peaks["Eager"] / peaks["hannet.HanStack"]}


def steps_of(script: str, kinds: list[str], *options: str) -> dict[str, int]:
    """What `script --step-of KIND` prints, in a new process a kind: KiB of memory."""
    peaks = {}
    for kind in kinds:
        command = [sys.executable, script, "--step-of", kind, *options]
        peaks[kind] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"  {kind} {peaks[kind] / 1024:.0f} MiB", flush=True)
    return peaks


def peak() -> int:
    """The most memory that this process has had so far, in KiB."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one had then
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def step_of(kind: str) -> None:
    """Prints the KiB by which one training step raises the peak memory of this process."""
    build = {"hannet.HanStack": hannet.HanStack, "Eager": Eager}[kind]

    def run(net: nn.Module, batch: int) -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
        net(torch.randn(batch, 256)).square().mean().backward()
        optimizer.step()

    run(build(256, 2), 8)  # everything loaded and compiled
    net = build(256, 1000)
    before = peak()
    run(net, 1024)
    print(peak() - before)


@torch.no_grad()
def rebuild() -> dict[str, float]:
    """Relative error of the input rebuilt from the output through 10,000 layers in float32."""
    stack, x = hannet.HanStack(256, 10_000), torch.randn(64, 256)
    y, signs = x, []
    for layer in stack:
        z = hannet.functional.householder(y, layer.u, layer.b)
        signs.append(torch.where(z < 0, -1.0, 1.0))
        y = z.abs()
    for layer, s in zip(reversed([*stack]), reversed(signs), strict=True):
        y = hannet.functional.householder(s * y - layer.b, layer.u)
    return {"relative error": float((y - x).norm() / x.norm())}


def alternate() -> dict[str, float]:
    """A step that alternates between PyTorch's threads and the kernel's: time with 2 threads over time with 1."""
    x, gradient = torch.randn(512, 512, requires_grad=True), torch.randn(512, 512)
    parts = (m for _ in range(4) for m in (nn.Linear(512, 512), hannet.HanStack(512, 10)))
    run = forward_backward(nn.Sequential(*parts), x, gradient)

    def on(threads: int) -> Callable[[], None]:
        def timed() -> None:
            torch.set_num_threads(threads)
            run()

        return timed

    before = torch.get_num_threads()
    times = compare({"two": on(2), "one": on(1)})
    torch.set_num_threads(before)
    return {"two threads over one": times["two"] / times["one"]}


def show(row: dict[str, float]) -> None:
    """One line a value."""
    for name, value in row.items():
        print(f"    {name}: {value:.3g}", flush=True)


QUESTIONS = {q.__name__: q for q in (one_linear, step, memory, rebuild, alternate, sizes)}


def parser_of(text: str, questions: Collection[str]) -> argparse.ArgumentParser:
    """The options that all these benchmarks have."""

    def some(only: str) -> str:
        if unknown := [name for name in only.split(",") if name not in questions]:
            raise argparse.ArgumentTypeError(f"no question {unknown[0]!r}; there are {', '.join(questions)}")
        return only

    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=some, default=",".join(questions), help=f"some of {', '.join(questions)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"))
    parser.add_argument("--step-of", help=argparse.SUPPRESS)
    return parser


def ask(
    benchmark: str, questions: dict[str, Callable[[], dict[str, float]]], args: argparse.Namespace, **config: object
) -> None:
    """Asks the chosen questions; prints each answer and appends it to the records."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    store = runs.Store(args.out)
    for name in args.only.split(","):
        print(f"{name}: {questions[name].__doc__}", flush=True)
        start = time.perf_counter()
        row = questions[name]()
        show(row)
        run = Run(f"benchmark {benchmark}: {name}", {"threads": args.threads, **config}, 0)
        store.append([Record.of(run, row, time.perf_counter() - start)])


def main() -> None:
    """Ask all questions, or some."""
    parser = parser_of(__doc__, QUESTIONS)
    args = parser.parse_args()
    if args.step_of:
        return step_of(args.step_of)
    return ask("stack", QUESTIONS, args)


if __name__ == "__main__":
    main()
