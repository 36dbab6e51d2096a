"""Does a command that finds the disk full, at any of its writes, end with one sentence, and is nothing lost?

    python benchmarks/trust/disk_full.py [--only fit,"train hannet",...] [--steps 40] [--quick] [--out hannet-results/trust]

Each of fit, train, reproduce, export and predict runs again and again, over an older result half of the times: with a limit on the size
of files (RLIMIT_FSIZE) that grows from 0 to what the command needs, and, where this may be mounted, on a file system in memory
(tmpfs) of a few kilobytes that grows likewise. It must succeed with the right result, or end with one sentence and leave what
was there; and the same command must then succeed once there is room. Prints a line a command; appends a record; exits with 1 if
there was a fault. A few minutes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import workload
from attempts import COMMANDS, Trials, prepare

PAGE = resource.getpagesize()


def main() -> None:
    """Fill, look, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(COMMANDS), help="commands, separated by commas")
    parser.add_argument(
        "--steps", type=int, default=40, help="limits of each kind, from nothing to what a command needs"
    )
    parser.add_argument("--quick", action="store_true", help="three limits of each kind for two commands")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/trust"), help="folder of the record")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.only, arguments.steps = "fit,reproduce", 3
    began, counts, faults = time.perf_counter(), Counter[str](), list[str]()
    workload.warm_up()
    with tempfile.TemporaryDirectory(prefix="hannet-full-") as name, workload.no_process_left():
        prepare(Path(name))
        for command in arguments.only.split(","):
            trials = Trials(command, Path(name))
            for kind, fill in {"size of files": _limited, "size of the disk": _on_small_disk}.items():
                found = _try_all(trials, fill, arguments.steps)
                counts.update({f"{what}: {command}, {kind}": count for what, count in found.items()})
                told = f"{found['trials']:>4} trials, {found['sentences']:>4} sentences, {found['faults']} faults"
                print(f"{time.perf_counter() - began:6.0f} s  {command:<16}{kind:<18}{told}", flush=True)
                faults += [fault for fault in found if fault not in ("trials", "sentences", "faults")]
    print(*faults, sep="\n")
    for what in ("trials", "sentences", "faults"):
        counts[what] = sum(count for key, count in counts.items() if key.startswith(f"{what}:"))
    metrics = {
        key: float(count) for key, count in counts.items() if key.split(":")[0] in ("trials", "sentences", "faults")
    }
    config = {"steps": arguments.steps, "only": arguments.only}
    workload.save_record(arguments.out, "disk full", config, 0, metrics, began)
    print(f"{counts['trials']} trials, {counts['faults']} faults")
    sys.exit(counts["faults"] > 0)


def _try_all(trials: Trials, fill: Callable[[Trials, int], str | None], steps: int) -> Counter[str]:
    """Limits from nothing to a bit more than the results take, finely where they are small."""
    found = Counter[str](trials=0, sentences=0, faults=0)
    whole = sum(path.stat().st_size for path in trials.folder.rglob("*") if path.is_file())
    for step in range(steps):
        ended = fill(trials, int(1.2 * whole * (step / max(steps - 1, 1)) ** 2) + step * (step % 2))
        if ended is None:
            return found  # it can't be done here
        found["trials"] += 1
        found["sentences"] += ended == "sentence"
        if ended not in ("success", "sentence"):
            found["faults"] += 1
            found[f"{' '.join(trials.words[:2])}: {ended}"] += 1
    return found


def _limited(trials: Trials, size: int) -> str:
    """With a limit on the size of files."""
    folder = trials.fresh()
    older = _older(trials, folder, size)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    return _ended(trials, folder, limit, older)


def _on_small_disk(trials: Trials, size: int) -> str | None:
    """On a file system with so many bytes left; None where none can be mounted."""
    folder = trials.folder.with_name("disk")
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        return None
    try:
        trials.fresh(folder)
        older = _older(trials, folder, size)
        pages = _used(folder) + size // PAGE
        subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", str(folder)], check=True)
        ended = _ended(trials, folder, lambda: None, older, lambda: _grow(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    return ended


def _grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)


def _used(folder: Path) -> int:
    """Pages that a file system uses."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // PAGE


def _older(trials: Trials, folder: Path, size: int) -> workload.Snapshot:
    """Half of the times, an older result."""
    if size % 2:
        workload.finish(folder, *trials.words)
    return trials.read(folder)


def _ended(
    trials: Trials,
    folder: Path,
    limit: Callable[[], object],
    older: workload.Snapshot,
    make_room: Callable[[], object] = lambda: None,
) -> str:
    attempt = trials.judge(folder, trials.start(folder, limit), older)
    make_room()
    fault = attempt.fault or (trials.again(folder) if attempt.code else "")
    return fault or ("sentence" if attempt.code else "success")


if __name__ == "__main__":
    main()
