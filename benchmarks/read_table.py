"""How long does it take to read a table of 1,000,000 rows x 20 columns of CSV, against polars, and how much memory?

    python benchmarks/read_table.py [--rows 1000000] [--rounds 3] [--threads 2] [--out hannet-results/benchmarks]

Both read every cell as text. Each reading is a process of its own, in turn, round after round: seconds, processor time and the
peak of resident memory; medians and their ratios are printed and appended to a record. Needs polars, which the extra
`benchmarks` brings.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import Process
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd

from hannet.experiments import store
from hannet.experiments.record import Record, Run

SETUP = {
    "hannet": "from hannet.tabular import delimited, typed_files; from hannet.tabular.readers import read",
    "polars": "import polars",
}
READ = {"hannet": "read(Path(sys.argv[1]))", "polars": "polars.read_csv(sys.argv[1], infer_schema=False)"}
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
{setup}
began = time.perf_counter(), time.process_time()
table = {read}
took = time.perf_counter() - began[0], time.process_time() - began[1]
print(json.dumps([*took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10]))
"""
MEASURES = ("seconds", "processor seconds", "MiB")


def write_table(path: Path, rows: int) -> None:
    """Numbers, whole numbers, words and dates."""
    rng = np.random.default_rng(0)
    columns = {f"f{place}": rng.normal(size=rows).round(6) for place in range(11)}
    columns |= {f"i{place}": rng.integers(0, 100_000, rows) for place in range(5)}
    columns |= {f"c{place}": rng.choice(["red", "green", "blue", "a, b"], rows) for place in range(3)}
    columns["day"] = np.datetime_as_string(np.datetime64("2000-01-01") + rng.integers(0, 8000, rows))
    pd.DataFrame(columns).to_csv(path, index=False)


def measure(name: str, path: Path, threads: int) -> list[float]:
    """Seconds, processor time and MiB of one reading."""
    program = PROGRAM.format(setup=SETUP[name], read=READ[name])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "POLARS_MAX_THREADS": str(threads)}
    result = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, env=environment)
    return json.loads(result.stdout)


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="threads of either reader")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        writer = Process(target=write_table, args=(path, arguments.rows))  # a child's peak begins with its parent's
        writer.start()
        writer.join()
        taken = [[measure(name, path, arguments.threads) for name in READ] for _ in range(arguments.rounds)]
    metrics = {
        f"{name}, {what}": median(turn[place][which] for turn in taken)
        for place, name in enumerate(READ)
        for which, what in enumerate(MEASURES)
    }
    for which, what in enumerate(MEASURES):
        metrics[f"hannet / polars, {what}"] = median(turn[0][which] / turn[1][which] for turn in taken)
    for what, value in metrics.items():
        print(f"{what:>40}  {value:.4g}")
    run = Run("benchmark read_table", {"rows": arguments.rows, "threads": arguments.threads}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, perf_counter() - began)])


if __name__ == "__main__":
    main()
