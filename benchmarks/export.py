"""How fast is an exported HanNet, and how far from the model, beside PyTorch and onnxruntime on torch's own export?

    python benchmarks/export.py [--seconds 2] [--out hannet-results/benchmarks]

HanNet 20x200 on 13 inputs, one thread. Medians of the thread's own time, so that other programs on the machine count little; the
candidates take turns. C is timed inside a C program, in bursts of 100 rows. Parity: 10,000 rows with unusual ones, largest errors
relative to a row's scale, as multiples of that of PyTorch in float32. Takes about a minute.
"""

import argparse
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import onnxruntime
import torch

import hannet
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.export import onnx, targets, verify
from hannet.export.sources import Source, open_source

INPUTS, WIDTH, DEPTH = 13, 200, 20
FORMS = ("augmented", "rank one", "matrix", "elementwise")
BUILDS = {"-O2": ("-std=c99", "-O2"), "-O3 -march=native": ("-std=c99", "-O3", "-march=native")}
TIMER = """#define _POSIX_C_SOURCE 199309L
#include "net.h"
#include <stdio.h>
#include <time.h>
int main(void)
{
    static net_workspace w;
    float row[NET_INPUTS], out[NET_OUTPUTS];
    for (int i = 0; i < NET_INPUTS; i++)
        row[i] = 0.1f * (float)i - 0.5f;
    for (int burst = 0; burst < 2001; burst++) {
        struct timespec start, end;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        for (int i = 0; i < 100; i++) {
            net_predict(row, out, &w);
            row[0] = out[0] > 0.0f ? 0.1f : -0.1f;
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        printf("%.9g\\n", (double)(end.tv_sec - start.tv_sec) / 100 + (double)(end.tv_nsec - start.tv_nsec) / 1e11);
    }
    return 0;
}
"""


def session(content: Any) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def medians(candidates: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each candidate's thread; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = perf_counter() + seconds * len(candidates)
    while perf_counter() < end or len(times[next(iter(times))]) < 9:
        for name, run in candidates.items():
            for _ in range(5):
                start = thread_time()
                run()
                times[name].append(thread_time() - start)
    return {name: median(values) for name, values in times.items()}


def c_files(net: hannet.HanNet) -> dict[str, str]:
    """The library and a program that times it."""
    return {**targets.prepare(net, "net").library.files, "timer.c": TIMER}


def c_times(folder: Path) -> dict[str, float]:
    """Median seconds of a row in C, by flags of the compiler."""
    found = {}
    for flags, given in BUILDS.items():
        runner = verify.build(folder, ["net.c", "timer.c"], "timer", given)
        done = subprocess.run([runner], capture_output=True, text=True, check=True)
        found[f"C {flags}"] = median(map(float, done.stdout.split()))
    return found


def speed(net: hannet.HanNet, source: Source, folder: Path, seconds: float) -> dict[str, float]:
    """Microseconds of 1 and 1,000 rows, and ratios to torch's own export."""
    torch.onnx.export(
        net, (torch.randn(2, INPUTS),), folder / "torch.onnx", dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )  # fmt: skip
    sessions = {"torch's own export": session(folder / "torch.onnx")}
    for form in FORMS:
        content = onnx.to_model(source.program, form=form).SerializeToString()
        sessions[f"ours, {form}"] = session(content)
    found: dict[str, float] = {}
    for rows in (1, 1000):
        x = np.random.default_rng(0).standard_normal((rows, INPUTS), np.float32)
        tensor = torch.from_numpy(x)

        def in_pytorch(tensor: torch.Tensor = tensor) -> object:
            with torch.inference_mode():
                return net(tensor)

        candidates: dict[str, Callable[[], object]] = {"PyTorch": in_pytorch}
        for name, one in sessions.items():
            feed = {one.get_inputs()[0].name: x}
            candidates[name] = lambda one=one, feed=feed: one.run(None, feed)
        times = medians(candidates, seconds)
        if rows == 1:
            times |= c_times(folder)
        base = times["torch's own export"]
        for name, value in times.items():
            found[f"{rows} rows, {name}, us"] = 1e6 * value
            found[f"{rows} rows, {name} over torch's own export"] = value / base
        found[f"{rows} rows, ours over PyTorch"] = times["ours, augmented"] / times["PyTorch"]
    return found


def parity(source: Source, folder: Path) -> dict[str, float]:
    """Largest errors on 10,000 rows, as multiples of PyTorch's in float32."""
    tried = verify.trial(source, 10_000, seed=1)
    made = onnx.to_model(source.program)
    checks = verify.check_onnx(made, tried)
    (folder / "run.c").write_text(verify.driver("net", "float"))
    for flags, given in BUILDS.items():
        runner = verify.build(folder, ["net.c", "run.c"], "run", given)
        checks.append(verify.compare(f"C {flags}", verify.run_c(runner, source.program, tried.rows), tried))
    return {f"error of {check.runtime} over float32's": check.largest_error / check.float32_error for check in checks}


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each candidate")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    began = perf_counter()
    net = hannet.HanNet(INPUTS, 1, WIDTH, DEPTH).eval()
    source = open_source(net)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file, content in c_files(net).items():
            (folder / file).write_text(content)
        metrics = {**speed(net, source, folder, arguments.seconds), **parity(source, folder)}
    for what, value in metrics.items():
        print(f"{what:>60}  {value:.4g}")
    run = Run("benchmark export", {"threads": 1, "inputs": INPUTS, "width": WIDTH, "depth": DEPTH}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])


if __name__ == "__main__":
    main()
