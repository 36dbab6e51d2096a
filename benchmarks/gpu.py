"""How fast is a stack of Han-layers on a GPU, against what one would use instead, and against the memory itself?

    python benchmarks/gpu.py [--shapes 65536x512x20 ...] [--modes default reduce-overhead] [--out results/benchmarks]

Rows x width x depth, in bfloat16 (the tf32 column: float32). Times are medians of CUDA events; the candidates take turns, round after
round. The copy is one of x on the device, what any layer must at least read and write. One table of ratios is printed and appended
to a record. Takes about ten minutes, most of it torch.compile, whose best mode counts. Run it with nothing else on the GPU.
"""

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import replace
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
    """Median seconds of each candidate, in bursts long enough to hide what starting them costs the host."""
    calls, times = {}, {name: [] for name in candidates}
    for name, run in candidates.items():
        for _ in range(3):  # compile, allocate, warm up
            run()
        calls[name] = max(1, int(burst / _seconds(run, 3)))
    end = perf_counter() + seconds * len(candidates)
    while perf_counter() < end or len(times[name]) < 5:
        for name, run in candidates.items():
            times[name].append(_seconds(run, calls[name]))
    return {name: median(values) for name, values in times.items()}


def _seconds(run: Callable[[], object], calls: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3 / calls


def peak(run: Callable[[], object]) -> int:
    """Bytes by which a call raises the memory in use."""
    run()
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


def one_shape(rows: int, width: int, depth: int, modes: list[str]) -> Row:
    """Times of others over that of HanStack, forward and with the backward pass, and so for the memory of a step."""
    half = torch.bfloat16
    x, gradient = torch.randn(2, rows, width, device="cuda", dtype=half)
    nets = {"HanStack": hannet.HanStack(width, depth), "eager": Eager(width, depth), "Linear+ReLU": dense(width, depth)}
    nets = {name: net.to("cuda", half) for name, net in nets.items()}
    nets |= {f"compile {mode}": torch.compile(nets["eager"], mode=mode) for mode in modes}
    inputs = dict.fromkeys(nets, (x.requires_grad_(), gradient))
    nets["Linear+ReLU tf32"] = dense(width, depth).cuda()
    inputs["Linear+ReLU tf32"] = x.detach().float().requires_grad_(), gradient.float()

    found: Row = {}
    target = torch.empty_like(x)
    passes = {
        "forward": {name: forward_of(net, inputs[name][0]) for name, net in nets.items()}
        | {"copy": lambda: target.copy_(x.detach())},
        "forward+backward": {name: backward_of(net, *inputs[name]) for name, net in nets.items()},
    }
    for label, candidates in passes.items():
        times = compare(candidates)
        times["compile"] = min(times[f"compile {mode}"] for mode in modes)
        ours = times.pop("HanStack")
        found[f"{label}: microseconds"] = ours * 1e6
        if "copy" in times:
            found[f"{label}: over copy"] = ours / times.pop("copy")
        names = ("eager", "compile", "Linear+ReLU", "Linear+ReLU tf32")
        found |= {f"{label}: {name}": times[name] / ours for name in names}
    bytes_of = {name: peak(passes["forward+backward"][name]) for name in ("HanStack", "eager")}
    found["memory: MiB"] = bytes_of["HanStack"] / 2**20
    found["memory: eager"] = bytes_of["eager"] / bytes_of["HanStack"]
    return found


def step_of(members: int) -> float:
    """Seconds a step, under a graph, of that many HanNets 100x20 that train at batch 100 on the checkerboard, batches drawn."""
    square = checkerboard().to(device())

    def seconds(iterations: int) -> float:
        networks = [hannet.HanNet(2, 2).to(device()) for _ in range(members)]
        torch.cuda.synchronize()
        began = perf_counter()
        train(
            networks, [Recipe(iterations=iterations, lr=1e-3)] * members, [0] * members, square.x_train, square.y_train
        )
        torch.cuda.synchronize()
        return perf_counter() - began

    seconds(20)  # compiles
    return (seconds(4200) - seconds(200)) / 4000  # what comes before the first replay cancels out


def members() -> Row:
    """The time of a step of fifty members over that of one member's; medians of rounds in turn."""
    rounds = [[step_of(count) for count in (1, 50)] for _ in range(3)]
    one, fifty = (median(times) for times in zip(*rounds, strict=True))
    return {"members: microseconds": fifty * 1e6, "members: 50 over 1": fifty / one}


def _driver() -> str:
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
        torch.compiler.reset()
        found = one_shape(*map(int, shape.split("x")), args.modes)
        _print(shape, found)
        metrics |= {f"{shape} {name}": value for name, value in found.items()}
    found = members()
    print(
        f"a training step of 50 members of HanNet 100x20 takes {found['members: 50 over 1']:.3g} times as long as one member's"
    )
    run = Run("benchmark gpu", {"shapes": args.shapes, "modes": args.modes, "dtype": "bfloat16"}, 0)
    record = Record.of(run, metrics | found, perf_counter() - began)
    versions = {"triton": triton.__version__, "cuda": str(torch.version.cuda), "driver": _driver()}
    record = replace(record, device=torch.cuda.get_device_name(), versions=dict(record.versions) | versions)
    store.Store(args.out).append([record])


if __name__ == "__main__":
    main()
