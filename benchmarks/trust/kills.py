"""Does a command that is killed at a random moment, and given again, end with what it gives when it is left alone?

    python benchmarks/trust/kills.py [--kills 100] [--only sweep,images,fit,cluster,saving] [--quick] [--out hannet-results/trust]

Of each kind so many SIGKILLs, at random moments of a command's life, never after its end:
sweep    `hannet reproduce figure1 --quick`, shortened: one process, one of two on one store, a sweep with two jobs or a worker of it
images   `hannet train images`, which saves its state after every step
fit      `hannet fit`, half of the times over an older model
cluster  the same sweep on a Dask cluster: a worker, or the scheduler
saving   `hannet fit --force` while it writes its folder: at one of its calls to the file system, or at a random moment
After the kill the same command is run to its end, and its folder compared with an undisturbed one's, in everything but seconds
and dates; an older model must be there, whole, until the new one is. Prints where each kill hit; appends a record; exits with 1
if anything differed. About half an hour on one core.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import workload
from cluster_kills import Cluster
from command_kills import Fit, Images, Kind, Saving, Sweep

KINDS: dict[str, type[Kind]] = {"sweep": Sweep, "images": Images, "fit": Fit, "cluster": Cluster, "saving": Saving}


def main() -> None:
    """Kill, resume, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each kind")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="one each of a sweep, a fit and its writing")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/trust"), help="folder of the record")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.kills, arguments.only = 1, "sweep,fit,saving"
    kills = arguments.kills
    began, counts = time.perf_counter(), Counter[str]()
    workload.warm_up()
    with tempfile.TemporaryDirectory(prefix="hannet-kills-") as folder, workload.no_process_left():
        for name in arguments.only.split(","):
            kind = KINDS[name](Path(folder, name), random.Random(arguments.seed))  # noqa: S311
            for number, hit in enumerate(kind.hits(kills), 1):
                counts.update(["kills", f"kills: {name}, {hit.victim}", f"killed in: {name}, {hit.stage}"])
                counts.update({"right": hit.right, f"right: {name}": hit.right})
                told = "right" if hit.right else f"WRONG, kept in {_keep(kind.folder)}"
                line = f"{name:<8}{number:>4}  {hit.victim:<24} in {hit.stage:<36} {told}"
                print(f"{time.perf_counter() - began:6.0f} s  {line}", flush=True)
    metrics = {name: float(count) for name, count in sorted(counts.items())}
    config = {"kills": kills, "only": arguments.only, "iterations": workload.ITERATIONS}
    workload.save_record(arguments.out, "kills", config, arguments.seed, metrics, began)
    print(f"{counts['right']} of {counts['kills']} right in the end")
    sys.exit(counts["right"] != counts["kills"])


def _keep(folder: Path) -> Path:
    """A copy of what a trial left, to be looked at."""
    place = Path(tempfile.mkdtemp(prefix="hannet-wrong-"))
    shutil.copytree(folder.parent, place, dirs_exist_ok=True)
    return place


if __name__ == "__main__":
    main()
