"""How fast is a stack of Han-layers on a GPU, against what one would use instead, and against the memory itself?

    python benchmarks/gpu.py [--shapes 65536x512x20 ...] [--modes default reduce-overhead] [--out hannet-results/benchmarks]

Rows x width x depth, in bfloat16 (the tf32 column: float32). Times are medians of CUDA events; the candidates take turns, round after
round. The copy is one of x on the device, what any layer must at least read and write. One table of ratios is printed and appended
to a record. Takes about ten minutes, most of it torch.compile, whose best mode counts. Run it with nothing else on the GPU.
"""

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import triton
from torch import nn

import hannet
from hannet.data.synthetic import checkerboard
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.train.recipe import Recipe
from hannet.train.trainer import device, train
from stack import Eager, dense, forward_backward

SHAPES = ["65536x512x20", "65536x1024x16", "262144x64x16", "65536x100x20"]
MODES = ["default", "reduce-overhead"]
Row = dict[str, float]


def compare(candidates: dict[str, Callable[[], object]], seconds: float = 2.0, burst: float = 0.02) -> Row:
    """Median seconds of each candidate, in bursts long enough to hide what starting them costs the host.

    seconds: of each; with 0 each is called once, to see that it works.
    """
    calls, times = {}, {name: [] for name in candidates}
    for name, run in candidates.items():
        for _ in range(3 if seconds else 0):  # compile, allocate, warm up
            run()
        calls[name] = max(1, int(burst / seconds_of(run, 3))) if seconds else 1
    end = perf_counter() + seconds * len(candidates)
    while perf_counter() < end or len(times[name]) < (5 if seconds else 1):
        for name, run in candidates.items():
            times[name].append(seconds_of(run, calls[name]))
    return {name: median(values) for name, values in times.items()}


def seconds_of(run: Callable[[], object], calls: int) -> float:
    """Seconds a call, by the clock of the device."""
    if device().type != "cuda":
        began = perf_counter()
        for _ in range(calls):
            run()
        return (perf_counter() - began) / calls
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3 / calls


def peak(run: Callable[[], object]) -> float:
    """Bytes by which a call raises the memory in use; not a number but on a GPU."""
    run()
    if device().type != "cuda":
        return nan
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def forward_of(net: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One forward pass without gradients."""

    @torch.no_grad()
    def run() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        net(x)

    return run


def backward_of(net: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, gradients of the input and of all parameters."""
    both = forward_backward(net, x, gradient)

    def run() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        both()

    return run


def _inputs(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and the gradient of the output."""
    x, gradient = torch.randn(2, rows, width, device=device(), dtype=torch.bfloat16)
    return x.requires_grad_(), gradient


def _ratios(label: str, times: Row) -> Row:
    """Times of others over that of HanStack, and that one over a copy's."""
    ours = times.pop("HanStack")
    found = {f"{label}: microseconds": ours * 1e6}
    if "copy" in times:
        found[f"{label}: over copy"] = ours / times.pop("copy")
    return found | {f"{label}: {name}": seconds / ours for name, seconds in times.items()}


def beside_eager(rows: int, width: int, depth: int, seconds: float = 2.0) -> Row:
    """HanStack beside a copy, the equation as written and Linear + ReLU, without torch.compile; and the memory of a step."""
    x, gradient = _inputs(rows, width)
    nets = {"HanStack": hannet.HanStack(width, depth), "eager": Eager(width, depth), "Linear+ReLU": dense(width, depth)}
    nets = {name: net.to(device(), x.dtype) for name, net in nets.items()}
    inputs = dict.fromkeys(nets, (x, gradient))
    nets["Linear+ReLU tf32"] = dense(width, depth).to(device())
    inputs["Linear+ReLU tf32"] = x.detach().float().requires_grad_(), gradient.float()
    target = torch.empty_like(x)
    forward = {name: forward_of(net, inputs[name][0]) for name, net in nets.items()}
    forward["copy"] = lambda: target.copy_(x.detach())
    both = {name: backward_of(net, *inputs[name]) for name, net in nets.items()}
    found = _ratios("forward", compare(forward, seconds)) | _ratios("forward+backward", compare(both, seconds))
    bytes_of = {name: peak(both[name]) for name in ("HanStack", "eager")}
    found["memory: MiB"] = bytes_of["HanStack"] / 2**20
    found["memory: eager"] = bytes_of["eager"] / bytes_of["HanStack"]
    return found


def beside_compiled(rows: int, width: int, depth: int, mode: str, seconds: float = 2.0) -> Row:
    """HanStack beside the equation as torch.compile has it in a mode; "eager", a backend of its own, is a mode here."""
    torch.compiler.reset()
    x, gradient = _inputs(rows, width)
    options = {"backend": mode} if mode == "eager" else {"mode": mode}
    nets = {"HanStack": hannet.HanStack(width, depth), f"compile {mode}": Eager(width, depth)}
    nets = {name: net.to(device(), x.dtype) for name, net in nets.items()}
    nets[f"compile {mode}"] = torch.compile(nets[f"compile {mode}"], **options)
    forward = {name: forward_of(net, x) for name, net in nets.items()}
    both = {name: backward_of(net, x, gradient) for name, net in nets.items()}
    return _ratios("forward", compare(forward, seconds)) | _ratios("forward+backward", compare(both, seconds))


def one_shape(rows: int, width: int, depth: int, modes: list[str]) -> Row:
    """All ratios of a shape; of torch.compile's modes the best counts."""
    found = beside_eager(rows, width, depth)
    for label in ("forward", "forward+backward"):
        found[f"{label}: compile"] = inf
    for mode in modes:
        ratios = beside_compiled(rows, width, depth, mode)
        for label in ("forward", "forward+backward"):
            found[f"{label}: compile"] = min(found[f"{label}: compile"], ratios[f"{label}: compile {mode}"])
    return found


def step_of(members: int, between: tuple[int, int], **network: int) -> float:
    """Seconds a step, under a graph, of that many HanNets that train at batch 100 on the checkerboard, batches drawn.

    between: iterations of two trainings, whose difference counts: what comes before the first replay cancels out.
    """
    square = checkerboard().to(device())

    def seconds(iterations: int) -> float:
        networks = [hannet.HanNet(2, 2, **network).to(device()) for _ in range(members)]
        recipes = [Recipe(iterations=iterations, lr=1e-3)] * members
        synchronize()
        began = perf_counter()
        train(networks, recipes, [0] * members, square.x_train, square.y_train)
        synchronize()
        return perf_counter() - began

    seconds(min(20, between[0]))  # compiles
    few, many = between
    return (seconds(many) - seconds(few)) / (many - few)


def synchronize() -> None:
    """Waits for the device."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def members(rounds: int = 3, between: tuple[int, int] = (200, 4200), many: int = 50, **network: int) -> Row:
    """The time of a step of many members over that of one member's; medians of rounds in turn. between: as in step_of."""
    times = [[step_of(count, between, **network) for count in (1, many)] for _ in range(rounds)]
    one, all_of_them = (median(column) for column in zip(*times, strict=True))
    return {"members: microseconds": all_of_them * 1e6, f"members: {many} over 1": all_of_them / one}


def driver() -> str:
    """The version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _print(shape: str, found: Row) -> None:
    for label in ("forward", "forward+backward"):
        cells = {name.split(": ")[1]: value for name, value in found.items() if name.startswith(f"{label}: ")}
        cells |= {"memory: eager": found["memory: eager"]} if label != "forward" else {}
        print(f"| {shape} | {label} | " + " | ".join(f"{name} {value:.3g}" for name, value in cells.items()) + " |")


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="rows x width x depth")
    parser.add_argument("--modes", nargs="+", default=MODES, help="of torch.compile; the best counts")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py times a GPU, and PyTorch finds none here.")
    torch.set_float32_matmul_precision("high")  # tf32
    torch.manual_seed(0)
    began, metrics = perf_counter(), {}
    for shape in args.shapes:
        found = one_shape(*map(int, shape.split("x")), args.modes)
        _print(shape, found)
        metrics |= {f"{shape} {name}": value for name, value in found.items()}
    found = members()
    print(
        f"a training step of 50 members of HanNet 100x20 takes {found['members: 50 over 1']:.3g} times as long as one member's"
    )
    run = Run("benchmark gpu", {"shapes": args.shapes, "modes": args.modes, "dtype": "bfloat16"}, 0)
    record = Record.of(run, metrics | found, perf_counter() - began)
    versions = {"triton": triton.__version__, "cuda": str(torch.version.cuda), "driver": driver()}
    record = replace(record, device=torch.cuda.get_device_name(), versions=dict(record.versions) | versions)
    store.Store(args.out).append([record])


if __name__ == "__main__":
    main()
