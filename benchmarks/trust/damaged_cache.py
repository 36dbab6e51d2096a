"""Does every start work, whatever became of a file of compiled kernels?

    python benchmarks/trust/damaged_cache.py [--seed 0] [--out hannet-results/benchmarks]

A process compiles the kernels into an empty folder. Then each of its files in turn is truncated at a random place, filled with
zeros and filled with random bytes; each time a new process computes forward and backward passes with all kernels. It must end
well, be right to rounding, warn once, and have mended the file: the next process warns of nothing. The same with files that may
not exceed a few bytes, and with a folder that cannot be made. Prints what was tried and appends a record; exits with 1 if
anything went wrong. About six minutes.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hannet.experiments import store
from hannet.experiments.record import Record, Run

PROGRAM = """
import numpy as np
import torch
from hannet.functional import han_stack
from hannet.ops import reference
from hannet.ops.cpu.group_sort import sort_groups, unsort_groups
for dtype in (torch.float32, torch.float64):
    x, u, b = (torch.randn(n, 9, dtype=dtype, requires_grad=True) for n in (5, 3, 3))
    y, expected = han_stack(x, u, b), reference.stack(x, u, b)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out.sum(), (x, u, b)) for out in (y, expected)))
x, y, back, places = (np.array(values, kind) for values, kind in (((3, 2, 1), "f4"), ((0,) * 3, "f4"), ((0,) * 3, "f4"), ((9,) * 3, "u1")))
sort_groups(x, 3, False, y, places)
unsort_groups(y, places, 3, back)
assert y.tolist() == [1, 2, 3] and back.tolist() == [3, 2, 1]
"""
WARNING = "RuntimeWarning: compiled kernels"


def main() -> None:
    """Damage, start, start again, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the places and bytes")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    began, chance = time.perf_counter(), random.Random(arguments.seed)  # noqa: S311
    damages: dict[str, Callable[[bytes], bytes]] = {
        "truncated": lambda content: content[: chance.randrange(len(content))],
        "zeros": lambda content: bytes(len(content)),
        "random": lambda content: chance.randbytes(len(content)),
    }
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        if warnings_of(folder) != 0:
            sys.exit("the first process failed or warned")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in files:
            for name, damage in damages.items():
                path.write_bytes(damage(path.read_bytes()))
                note(counts, f"{path.name.partition('-')[0]} {name}", warnings_of(folder) == 1 and whole(folder))
    with tempfile.TemporaryDirectory() as folder:
        small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000))
        note(counts, "files of 1,000 bytes at most", warnings_of(folder, small) == 1)
    note(counts, "a folder that cannot be made", warnings_of("/proc/no/such/folder") == 0)  # Numba names another one
    run = Run("benchmark damaged_cache", {"files": len(files)}, arguments.seed)
    metrics = {name: float(counts[name]) for name in ("starts", "right")}
    store.Store(arguments.out).append([Record.of(run, metrics, time.perf_counter() - began)])
    print(f"{counts['right']} of {counts['starts']} starts right")
    sys.exit(counts["right"] != counts["starts"])


def warnings_of(folder: str, limit: Callable[[], None] | None = None) -> int:
    """How often a new process warned of its kernels; -1 if it failed."""
    environment = os.environ | {"NUMBA_CACHE_DIR": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, preexec_fn=limit)
    return -1 if run.returncode else run.stderr.count(WARNING)


def whole(folder: str) -> bool:
    """Whether the process before has mended the damage."""
    return warnings_of(folder) == 0


def note(counts: Counter[str], what: str, right: bool) -> None:
    """Count a start and say what became of it."""
    counts.update({"starts": 1, "right": right})
    print(f"{what:<50} {'right' if right else 'WRONG'}", flush=True)


if __name__ == "__main__":
    main()
