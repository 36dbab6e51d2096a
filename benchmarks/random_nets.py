"""Does the exported C of random networks compute the same under sanitizers, in floats and in integers?

    python benchmarks/random_nets.py [--nets 1000] [--out hannet-results/benchmarks]

Each network has 1 to 64 features, units and outputs, 0 to 40 Han-layers of one or two reflections, with or without biases, some of
them with u of zero, tiny or huge norm. Its C, compiled with all warnings as errors, AddressSanitizer and UndefinedBehaviorSanitizer,
runs rows, usual and unusual ones, and NaN. Floats are compared with float64 (at most four times the error of PyTorch in float32),
integers bit by bit with Python. Many networks are compiled at once. Appends a record; exits with 1 if anything differs. About ten
minutes.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from torch import nn

import hannet
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.export import targets, verify

BATCH, ROWS = 50, 60
BOUNDS = (-3.0, 3.0)
EXPONENTS = (-44, -30, 0, 0, 30, 38)  # of the norm of u
FLAGS = (*verify.FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def draw(rng: np.random.Generator) -> nn.Module:
    """A random network."""
    features, width, outputs = (int(size) for size in rng.integers(1, 65, 3))
    depth = int(rng.integers(0, 41))
    layers: list[nn.Module] = [nn.Linear(features, width), rng.choice([hannet.Abs(), nn.ReLU()])]
    if depth:
        stack = hannet.HanStack(width, depth, bool(rng.random() < 0.8), reflections=int(rng.integers(1, 3)))
        stack.u.data *= 10.0 ** int(rng.choice(EXPONENTS))
        stack.u.data[0] *= float(rng.random() < 0.7)
        layers.append(stack)
    last = hannet.HanLinear(width, outputs, reflections=2) if rng.random() < 0.3 else nn.Linear(width, outputs)
    return nn.Sequential(*layers, last)


@dataclass
class Case:
    """A network's C and what it must give."""

    made: targets.Prepared
    tried: verify.Trial

    @property
    def name(self) -> str:
        """What its names begin with."""
        return self.made.name

    def given(self) -> np.ndarray:
        """The rows, and one of NaN."""
        rows = verify.c_rows(self.made.program, self.tried.rows)
        return np.vstack([rows, np.full((1, rows.shape[1]), np.nan, np.float32)])

    def judge(self, raw: bytes) -> float:
        """The error over the allowed one; infinite if integers differ, or if the row of NaN gives numbers."""
        given, size = self.given(), self.made.program.output.size
        if self.made.integers:
            found = np.frombuffer(raw, np.int32).reshape(len(given), size)
            exact = np.array_equal(found[:-1], self.made.integers.outputs(given[:-1])[0])
            off = np.abs(found[:-1] * self.made.integers.unit - self.tried.truth)
            beyond = off / (self.made.integers.output_error + self.tried.limit * self.tried.scale[:, None])
            return float(beyond.max()) if exact and (found[-1] == -(2**31)).all() else np.inf
        found = np.frombuffer(raw, np.float32).reshape(len(given), size)
        check = verify.compare("C", found[:-1], self.tried)
        return check.largest_error / check.limit if np.isnan(found[-1]).all() else np.inf


def make_case(net: nn.Module, name: str, dtype: str) -> Case:
    """The C of a network."""
    made = targets.prepare(net, name, dtype, BOUNDS if dtype != "float32" else None)
    return Case(made, verify.trial(made.source, ROWS))


def compile_cases(folder: Path, cases: list[Case]) -> Path:
    """One program of all."""
    calls = []
    for number, case in enumerate(cases):
        for file, content in case.made.library.files.items():
            (folder / file).write_text(content)
        driver = verify.integer_driver if case.made.integers else verify.driver
        text = driver(case.name, "float").replace("int main(void)", f"static int run_{case.name}(void)")
        (folder / f"run_{case.name}.h").write_text(f'#include "{case.name}.c"\n{text}')
        calls.append(f"    case {number}: return run_{case.name}();")
    includes = "\n".join(f'#include "run_{case.name}.h"' for case in cases)
    cases_of = "\n".join(calls)
    head = "int main(int count, char **words)\n{\n    switch (count > 1 ? atoi(words[1]) : -1) {"
    (folder / "main.c").write_text(f"#include <stdlib.h>\n{includes}\n{head}\n{cases_of}\n    }}\n    return 99;\n}}\n")
    return verify.build(folder, ["main.c"], "nets", FLAGS)


def main() -> int:
    """Try them, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=1000, help="how many networks; each in floats and in int16")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng, began = np.random.default_rng(0), perf_counter()
    worst = {"float32": 0.0, "int16": 0.0}
    reports = different = rows = done = 0
    while done < arguments.nets:
        nets = [draw(rng) for _ in range(min(BATCH, arguments.nets - done))]
        cases = [make_case(net, f"net{n}_{dtype}", dtype) for n, net in enumerate(nets) for dtype in worst]
        with TemporaryDirectory() as temporary:
            program = compile_cases(Path(temporary), cases)
            for number, case in enumerate(cases):
                ended = subprocess.run(
                    [program, str(number)], input=case.given().tobytes(), capture_output=True, check=False
                )
                reports += bool(ended.returncode or ended.stderr)
                over = np.inf if ended.returncode else case.judge(ended.stdout)
                dtype = case.name.split("_")[1]
                worst[dtype] = max(worst[dtype], over)
                different += over > 1
                rows += len(case.given())
        done += len(nets)
        print(f"{done:,} networks, {reports} reports, {different} that differ", flush=True)
    metrics = {"networks": done, "rows": rows, "sanitizer reports": reports, "artefacts that differ": different}
    metrics |= {f"{dtype}: largest error over the allowed one": value for dtype, value in worst.items()}
    for what, value in metrics.items():
        print(f"{what:>45}  {value:.4g}")
    run = Run("benchmark random nets", {"nets": done, "batch": BATCH}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])
    return int(reports or different)


if __name__ == "__main__":
    sys.exit(main())
