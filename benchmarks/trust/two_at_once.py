"""How much longer do two commands take at once than one alone, on two cores?

    python benchmarks/trust/two_at_once.py [--commands fit,train,reproduce] [--rounds 3] [--out hannet-results/benchmarks]

Each command runs alone and beside another of its kind, as `hannet` starts it and with the OpenMP runtime's own spinning (OMP's
default of 300,000 turns), in turn, round after round; the smallest time of each counts. Two processes with twice the work
should take twice as long. Prints seconds and ratios and appends a record. Run it with nothing else running; about two minutes
a round.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hannet.experiments import store
from hannet.experiments.record import Record, Run

COMMANDS = {
    "fit": "fit table.csv --target y --no-baselines --epochs 30",
    "train": "train images mnist --width 100 --depth 10 --epochs 1",
    "reproduce": "reproduce figure1 --quick",
}
SPINNING = {"as started by hannet": {}, "OpenMP's own": {"GOMP_SPINCOUNT": "300000"}}


def main() -> None:
    """Time, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default=",".join(COMMANDS), help=f"some of {', '.join(COMMANDS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    began, metrics = time.perf_counter(), {}
    for command in arguments.commands.split(","):
        best: dict[tuple[str, int], float] = {}
        for _ in range(arguments.rounds):
            for spinning, variables in SPINNING.items():
                for count in (1, 2):
                    seconds = timed(COMMANDS[command], count, variables)
                    best[spinning, count] = min(seconds, best.get((spinning, count), seconds))
        for spinning in SPINNING:
            alone, both = best[spinning, 1], best[spinning, 2]
            print(f"{command:<10} {spinning:<21} {alone:6.1f} s alone, {both:6.1f} s two at once: {both / alone:.2f}")
            metrics |= {
                f"{command}, {spinning}: seconds alone": alone,
                f"{command}, {spinning}: over alone": both / alone,
            }
    run = Run("benchmark two_at_once", {"rounds": arguments.rounds, "processors": os.cpu_count()}, 0)
    store.Store(arguments.out).append([Record.of(run, metrics, time.perf_counter() - began)])


def timed(command: str, count: int, variables: dict[str, str]) -> float:
    """Seconds until `count` processes with this command have ended, each in a folder of its own."""
    chosen = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in chosen} | variables
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, str(number)) for number in range(count)]
        for place in places:
            place.mkdir()
            write_table(place / "table.csv")
        began = time.perf_counter()
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "hannet", *command.split()],
                cwd=place,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for place in places
        ]
        codes = [process.wait() for process in started]
        seconds = time.perf_counter() - began
    if any(codes):
        sys.exit(f"hannet {command}: exit codes {codes}")
    return seconds


def write_table(path: Path) -> None:
    """6,000 rows of 20 numbers and a target."""
    rows = (",".join(str((row * (7 + 2 * column)) % 101) for column in range(20)) for row in range(6000))
    header = ",".join(f"c{column}" for column in range(20))
    path.write_text("\n".join([f"{header},y", *(f"{row},{index % 13}.5" for index, row in enumerate(rows))]) + "\n")


if __name__ == "__main__":
    main()
