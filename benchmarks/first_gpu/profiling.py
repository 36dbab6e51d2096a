"""Where the time goes inside: PyTorch's profiler on the stack's kernels, and Nsight Compute where it runs."""

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import hannet
from gpu import backward_of, device, synchronize

from .keeping import Keeper

SHAPES = ((65536, 512, 20), (100, 100, 20))
_TINY = ((6, 5, 2),)
_MOST = 15_000_000  # bytes of a trace


def passes(rows: int, width: int, depth: int) -> Callable[[], None]:
    """A forward and backward pass in bfloat16."""
    stack = hannet.HanStack(width, depth).to(device(), torch.bfloat16)
    x, gradient = torch.randn(2, rows, width, device=device(), dtype=torch.bfloat16)
    return backward_of(stack, x.requires_grad_(), gradient)


def trace(keeper: Keeper, _folder: Path) -> None:
    """Microseconds of every kernel, and traces to look at; then hardware counters."""
    for rows, width, depth in _TINY if keeper.rehearsal else SHAPES:
        shape = f"{rows}x{width}x{depth}"
        path = keeper.out / f"trace-{shape}.json.gz"
        keeper.tell(shape, partial(_kernels, (rows, width, depth), path))
    keeper.tell("ncu", lambda: _counters(keeper), needs=0 if keeper.rehearsal else 15)


def _kernels(shape: tuple[int, int, int], path: Path) -> dict[str, float]:
    work = passes(*shape)
    calls = 10 if device().type == "cuda" else 1
    work()
    synchronize()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device().type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        for _ in range(calls):
            work()
        synchronize()
    plain = path.with_suffix("")
    profiler.export_chrome_trace(str(plain))
    content = gzip.compress(plain.read_bytes())
    plain.unlink()
    if len(content) <= _MOST:
        path.write_bytes(content)
    clock = "self_device_time_total" if device().type == "cuda" else "self_cpu_time_total"
    times = {event.key[:80]: getattr(event, clock) / calls for event in profiler.key_averages()}
    longest = sorted(times.items(), key=lambda pair: -pair[1])[:12]
    return {f"{name}: microseconds": time for name, time in longest if time}


def _counters(keeper: Keeper) -> dict[str, float]:
    """Hardware counters of both kernels, as text beside the records."""
    tool = shutil.which("ncu")
    if not tool and not keeper.rehearsal:
        raise FileNotFoundError("ncu is not on this machine")
    command = [sys.executable, "-m", "first_gpu.profiled", *map(str, _TINY[0] if keeper.rehearsal else SHAPES[0])]
    if tool and not keeper.rehearsal:
        # of the second of two passes: the first compiles
        kernels = ["--kernel-name", "regex:^(forward|backward)$", "--launch-skip", "2", "--launch-count", "2"]
        command = [tool, "--clock-control", "none", "--set", "full", *kernels, *command]
    folder, seconds = Path(__file__).parents[1], max(keeper.left, 300 if keeper.rehearsal else 5)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-1500:])
    if not keeper.rehearsal and not all(f" {kernel} " in done.stdout for kernel in ("forward", "backward")):
        raise RuntimeError(f"ncu did not see both kernels: {done.stdout[-1500:]}")
    (keeper.out / "ncu.txt").write_text(done.stdout)
    return {"lines": len(done.stdout.splitlines())}
