"""How large is the page of a classifier of digits, and how long does a prediction take in Chromium?

    hannet train images mnist --lipschitz --width 784 --depth 4 --reflections 24 --epochs 6 --out digits
    python benchmarks/web_page.py digits [--runs 5] [--out hannet-results/benchmarks]

The page of `hannet export digits --to web`, in each dtype, checks itself in headless Chromium: its test vectors, and the time of a
prediction in the fastest of many bursts of 4 ms, which other programs disturb least. Median of the runs, which take
turns. Prints a table and appends a record. Takes a minute.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from hannet.cli.export import load_model
from hannet.experiments import store
from hannet.experiments.record import Record, Run
from hannet.export import describe, to_web

DTYPES = ("float32", "int16", "int8")
STATUS = re.compile(r">Self-test: (\d+) rows, (\d+) wrong outputs, ([\d.]+) ms a prediction")


def self_test(chromium: str, page: Path, profile: Path) -> tuple[int, float]:
    """Wrong outputs, and milliseconds a prediction."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom")
    done = subprocess.run([chromium, *options, f"file://{page}?selftest"], capture_output=True, text=True, check=True)
    found = STATUS.search(done.stdout)
    assert found, "the page says nothing of its self-test"
    return int(found[2]), float(found[3])


def main() -> int:
    """Export, run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder that `hannet train images` wrote")
    parser.add_argument("--runs", type=int, default=5, help="of each page")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or sys.exit("Chromium is not installed")
    began, model = perf_counter(), load_model(arguments.model)
    metrics: dict[str, float] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pages = {dtype: folder / f"{dtype}.html" for dtype in DTYPES}
        for dtype, page in pages.items():
            metrics[f"{dtype}: bytes of the page"] = to_web(model, page, dtype=dtype).facts["bytes"]
        found = {dtype: [] for dtype in DTYPES}
        for _ in range(arguments.runs):
            for dtype, page in pages.items():
                found[dtype].append(self_test(chromium, page, folder / "profile"))
    for dtype, results in found.items():
        metrics[f"{dtype}: wrong outputs"] = sum(wrong for wrong, _ in results)
        metrics[f"{dtype}: ms a prediction"] = median(ms for _, ms in results)
    metrics["test accuracy"] = json.loads((arguments.model / "report.json").read_text())["test_accuracy"]
    for what, value in metrics.items():
        print(f"{what:>30}  {value:.4g}")
    run = Run("benchmark web page", {"model": describe(model).digest, "runs": arguments.runs}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])
    return int(any(metrics[f"{dtype}: wrong outputs"] for dtype in DTYPES))


if __name__ == "__main__":
    sys.exit(main())
