"""What do HanLinear, HanBlock and HanAdapter cost beside what they replace?

    python benchmarks/surgery.py [--only linear,block,adapter,fit] [--threads 2] [--out hannet-results/benchmarks]

Processor time of this process, all threads together: candidates take turns, and each round gives one ratio, of which the median is
printed and appended to a record; so other programs on the machine count little. Memory is the highest point of resident memory
during a step, above what the process had before it. `adapter` needs PEFT (pip install peft). Takes about ten minutes.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from torch import nn

import hannet
from hannet.surgery import HanAdapter
from stack import ask, parser_of

ROUNDS = 15
TOKENS, ADAPTER_WIDTHS, REFLECTIONS = 512, (768, 4096), 8
FIT_WIDTH, FIT_REFLECTIONS = 256, 32


def step(net: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, gradients of the input and of all parameters that want one."""
    with torch.no_grad():
        gradient = torch.randn_like(net(x))

    def run() -> None:
        net.zero_grad(set_to_none=True)
        x.grad = None
        net(x).backward(gradient)

    return run


def ratio(ours: Callable[[], None], other: Callable[[], None], rounds: int = ROUNDS) -> float:
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


def linear() -> dict[str, float]:
    """HanLinear(768, 768), 16 reflections on each side, against nn.Linear, batch 64."""
    ours, dense = hannet.HanLinear(768, 768, reflections=16), nn.Linear(768, 768)
    x = torch.randn(64, 768, requires_grad=True)
    counts = [sum(p.numel() for p in net.parameters()) for net in (ours, dense)]
    found = {"time over Linear": ratio(step(ours, x), step(dense, x)), "parameters over Linear": counts[0] / counts[1]}
    eight = hannet.HanLinear(768, 768, reflections=8)
    return found | {"time over Linear, 8 a side": ratio(step(eight, x), step(dense, x))}


def block() -> dict[str, float]:
    """HanBlock(768) against Linear 768-3072-768 with GELU, batch 512."""
    x = torch.randn(512, 768, requires_grad=True)
    dense = nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768))
    return {"MLP over HanBlock": 1 / ratio(step(hannet.HanBlock(768), x), step(dense, x))}


def adapted(kind: str, width: int) -> nn.Module:
    """A frozen Linear with an adapter of a kind."""
    base = nn.Sequential(nn.Linear(width, width))
    if kind == "HanAdapter":
        return nn.Sequential(HanAdapter(base[0], REFLECTIONS))
    from peft import HRAConfig, OFTConfig, get_peft_model

    config = HRAConfig(r=REFLECTIONS, target_modules=["0"]) if kind == "HRA" else OFTConfig(target_modules=["0"])
    return get_peft_model(base, config)  # type: ignore[arg-type]


def peak(kind: str, width: int) -> int:
    """Bytes of a step above those before it, in a process of its own, on Linux."""
    command = [sys.executable, __file__, "--peak", kind, str(width)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(kind: str, width: int) -> None:
    """What `peak` reads."""
    net, x = adapted(kind, width), torch.randn(TOKENS, width, requires_grad=True)
    small, few = adapted(kind, 8), torch.randn(2, 8, requires_grad=True)
    step(small, few)()  # so that what the first step imports and compiles does not count
    Path("/proc/self/clear_refs").write_text("5")  # the highest point starts anew
    before = resident("VmRSS")
    gradient = torch.randn(TOKENS, width)
    net(x).backward(gradient)
    print(resident("VmHWM") - before)


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the highest point."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def adapter() -> dict[str, float]:
    """A training step of one adapted Linear at 512 tokens against PEFT's HRA and OFT."""
    found = {}
    for width in ADAPTER_WIDTHS:
        x = torch.randn(TOKENS, width, requires_grad=True)
        ours = step(adapted("HanAdapter", width), x)
        memory = peak("HanAdapter", width)
        found[f"{width} HanAdapter MiB"] = memory / 2**20
        for kind in ("HRA", "OFT"):
            found[f"{width} time over {kind}"] = ratio(ours, step(adapted(kind, width), x), 3)
            found[f"{width} memory over {kind}"] = memory / peak(kind, width)
    return found


def fit() -> dict[str, float]:
    """Relative error of HanLinear.from_linear at 32 reflections and width 256, and that of the best factorisation of equal size."""
    found = {}
    for name, weight in (("random", torch.randn(FIT_WIDTH, FIT_WIDTH)), ("trained", trained_weight())):
        linear = nn.Linear(FIT_WIDTH, FIT_WIDTH, bias=False)
        linear.weight = nn.Parameter(weight)
        layer = hannet.HanLinear.from_linear(linear, FIT_REFLECTIONS)
        rank = sum(p.numel() for p in layer.parameters()) // (2 * FIT_WIDTH)
        values = torch.linalg.svdvals(weight.double())
        found[f"{name}: HanLinear"] = layer.relative_error or 0.0
        found[f"{name}: rank {rank}"] = (values[rank:].norm() / values.norm()).item()
    return found


def trained_weight() -> torch.Tensor:
    """The second layer of a net that has learned to sort pairs of digits' pixels: 256 to 256 between two ReLUs, on synthetic rows."""
    torch.manual_seed(0)
    x = torch.randn(4096, 32) @ torch.randn(32, FIT_WIDTH)
    y = x.sort(1).values[:, ::8]
    net = nn.Sequential(
        nn.Linear(FIT_WIDTH, FIT_WIDTH), nn.ReLU(), nn.Linear(FIT_WIDTH, FIT_WIDTH), nn.ReLU(), nn.Linear(FIT_WIDTH, 32)
    )
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for number in range(1500):
        rows = slice(256 * (number % 16), 256 * (number % 16 + 1))
        optimizer.zero_grad()
        (net(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
    return deepcopy(net[2].weight.detach())


QUESTIONS = {"linear": linear, "block": block, "adapter": adapter, "fit": fit}


def main() -> None:
    """Ask all questions, or some."""
    parser = parser_of(__doc__, QUESTIONS)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        torch.set_num_threads(args.threads)
        return print_peak(args.peak[0], int(args.peak[1]))
    return ask("surgery", QUESTIONS, args)


if __name__ == "__main__":
    main()
