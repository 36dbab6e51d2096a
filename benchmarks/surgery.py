"""What do HanLinear, HanBlock and HanAdapter cost beside what they replace?

    python benchmarks/surgery.py [--only linear,block,adapter,fit,gpt] [--threads 2] [--out hannet-results/benchmarks]

Processor time of this process, all threads together: candidates take turns, and each round gives one ratio, of which the median is
printed and appended to a record; so other programs on the machine count little. Memory is the highest point of resident memory
during a step, above what the process had before it. `adapter` needs PEFT, which the extra `benchmarks` brings.
Takes a few minutes.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median

# as the hannet command asks for: to spin while another thread computes is no work
os.environ["GOMP_SPINCOUNT"] = "2000"

import torch
from torch import nn

import hannet
from hannet.experiments.paper import _gpt
from hannet.experiments.paper.feedforward import CANDIDATES
from hannet.surgery import HanAdapter
from stack import ask, forward_backward, parser_of, ratio, timed

TOKENS, REFLECTIONS = 512, 8
ADAPTER_WIDTHS, PROCESSES = (768, 4096), 3
HRA = {768: (3, 3), 4096: (1, 1)}  # its processes, and steps in each: at 4096 one takes about a minute
FIT_WIDTH, FIT_REFLECTIONS = 256, 32
TOKENS_WRITTEN = 200


def linear() -> dict[str, float]:
    """HanLinear(768, 768), 16 reflections on each side, against nn.Linear, batch 64."""
    ours, dense = hannet.HanLinear(768, 768, reflections=16), nn.Linear(768, 768)
    x = torch.randn(64, 768, requires_grad=True)
    step = partial(forward_backward, x=x, gradient=torch.randn_like(x))
    counts = [sum(p.numel() for p in net.parameters()) for net in (ours, dense)]
    found = {"time over Linear": ratio(step(ours), step(dense)), "parameters over Linear": counts[0] / counts[1]}
    eight = hannet.HanLinear(768, 768, reflections=8)
    found["parameters over Linear, 8 a side"] = sum(p.numel() for p in eight.parameters()) / counts[1]
    return found | {"time over Linear, 8 a side": ratio(step(eight), step(dense))}


def block() -> dict[str, float]:
    """HanBlock(768) against Linear 768-3072-768 with GELU, batch 512."""
    x = torch.randn(512, 768, requires_grad=True)
    step = partial(forward_backward, x=x, gradient=torch.randn_like(x))
    dense = nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768))
    return {"MLP over HanBlock": 1 / ratio(step(hannet.HanBlock(768)), step(dense))}


def adapted(kind: str, width: int) -> nn.Module:
    """A frozen Linear with an adapter of a kind."""
    base = nn.Sequential(nn.Linear(width, width))
    if kind == "HanAdapter":
        return nn.Sequential(HanAdapter(base[0], REFLECTIONS))
    from peft import HRAConfig, OFTConfig, get_peft_model

    config = HRAConfig(r=REFLECTIONS, target_modules=["0"]) if kind == "HRA" else OFTConfig(target_modules=["0"])
    return get_peft_model(base, config)  # type: ignore[arg-type]


def measure(kind: str, width: int, steps: int) -> tuple[float, int]:
    """Seconds of the processor and bytes of memory that a step takes, in a process of its own, on Linux."""
    command = [
        sys.executable,
        __file__,
        "--adapter-step",
        kind,
        str(width),
        str(steps),
        "--threads",
        str(torch.get_num_threads()),
    ]
    seconds, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(seconds), int(memory)


def print_step(kind: str, width: int, steps: int) -> None:
    """What `measure` reads."""
    small, few = adapted(kind, 8), torch.randn(2, 8, requires_grad=True)
    forward_backward(small, few, torch.randn_like(few))()  # what the first step imports and compiles does not count
    net, x, gradient = adapted(kind, width), torch.randn(TOKENS, width, requires_grad=True), torch.randn(TOKENS, width)
    Path("/proc/self/clear_refs").write_text("5")  # the highest point starts anew
    before = resident("VmRSS")
    start = time.process_time()
    net(x).backward(gradient)
    seconds, memory = time.process_time() - start, resident("VmHWM") - before
    print(timed(forward_backward(net, x, gradient), steps) if steps > 1 else seconds, memory)


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the highest point."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def adapter() -> dict[str, float]:
    """A training step of one adapted Linear at 512 tokens against PEFT's HRA and OFT: medians over processes, which take turns.

    HRA at width 4096 has one process and one step, its first.
    """
    import peft  # noqa: F401  the processes use it, and the record is to name its version

    found = {}
    for width in ADAPTER_WIDTHS:
        taken: dict[str, list[tuple[float, int]]] = {kind: [] for kind in ("HanAdapter", "HRA", "OFT")}
        for turn in range(PROCESSES):
            for kind, values in taken.items():
                processes, steps = HRA[width] if kind == "HRA" else (PROCESSES, 10)
                if turn < processes:
                    values.append(measure(kind, width, steps))
        time_of, memory_of = (
            {kind: median(v[place] for v in values) for kind, values in taken.items()} for place in (0, 1)
        )
        found[f"{width} HanAdapter ms"] = 1000 * time_of["HanAdapter"]
        found[f"{width} HanAdapter MiB"] = memory_of["HanAdapter"] / 2**20
        for kind in ("HRA", "OFT"):
            found[f"{width} time over {kind}"] = time_of["HanAdapter"] / time_of[kind]
            found[f"{width} memory over {kind}"] = memory_of["HanAdapter"] / memory_of[kind]
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
    """The second layer of a net that has learned every eighth value of its sorted input, Gaussian of rank 32: 256 to 256 between ReLUs."""
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


def gpt() -> dict[str, float]:
    """The GPT of `hannet reproduce feedforward`: its HanBlocks of 0.5% against the usual feed-forwards, in training and generation."""
    nets = {
        part: _gpt.build({"kind": "GPT", "feedforward": CANDIDATES[part].form}, 0) for part in ("han-0.5", "mlp-100")
    }
    text = torch.randint(_gpt.SYMBOLS, (10_000,))
    ours, usual = (training_step(net, text) for net in nets.values())
    found = {"step over the MLP's": ratio(ours, usual)}
    written = {part: partial(generate, net, TOKENS_WRITTEN) for part, net in nets.items()}
    found["time of a written character over the MLP's"] = ratio(*written.values(), rounds=5)
    return found | {f"{part} characters a second": TOKENS_WRITTEN / timed(run, 1) for part, run in written.items()}


def training_step(net: nn.Module, text: torch.Tensor) -> Callable[[], None]:
    """A step as in the experiment: windows, loss, gradients, Adam."""
    windows, optimizer = _gpt.Windows(text, 0, 1), torch.optim.Adam(net.parameters(), 1e-6, fused=True)

    def run() -> None:
        x, y = windows.at(0, 0)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return run


@torch.no_grad()
def generate(net: nn.Module, count: int) -> torch.Tensor:
    """So many characters, one after the other, each drawn from what the net makes of the last window.  (1, count)."""
    text = torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(count):
        logits = net(text[:, -_gpt.CONTEXT :])[-1:]
        text = torch.cat([text, logits.softmax(-1).multinomial(1)], 1)
    return text[:, 1:]


QUESTIONS = {"linear": linear, "block": block, "adapter": adapter, "fit": fit, "gpt": gpt}


def main() -> None:
    """Ask all questions, or some."""
    parser = parser_of(__doc__, QUESTIONS)
    parser.add_argument("--adapter-step", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.adapter_step:
        torch.set_num_threads(args.threads)
        return print_step(args.adapter_step[0], *map(int, args.adapter_step[1:]))
    return ask("surgery", QUESTIONS, args)


if __name__ == "__main__":
    main()
