"""All that there is to know from a GPU, in order of value, in the minutes that it is at hand: correctness, speed, tiles, training, traces.

    python benchmarks/first_gpu.py [--minutes 8] [--more] [--rehearse] [--stages STAGE ...] [--data FOLDER] [--out FOLDER]

Each stage has its share of the time and a process of its own; what it finds is written at once to records.jsonl in the folder, failures
with their messages too. Called again, it goes on with what is missing, and with what failed. --more: the same with longer trainings,
CIFAR-100 and MobileViT. --rehearse: everything, tiny, on a CPU. Needs PyTorch, Triton, Numba and NumPy, no other package, and nothing
installed of hannet. CIFAR-10 comes from HANNET_DATA, or from what pack_cifar.py wrote to the folder of --data.
"""

import argparse
from pathlib import Path

from first_gpu import bare, rehearsal


def main() -> int:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument(
        "--more", action="store_true", help="go on after the first call: longer trainings, other data and networks"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="every stage of both calls, tiny, on a CPU, in Triton's interpreter"
    )
    parser.add_argument("--stages", nargs="+", default=(), metavar="STAGE", help="these alone")
    parser.add_argument(
        "--data", type=Path, default=Path("hannet-results"), help="folder of CIFAR-10 as pack_cifar.py packs it"
    )
    parser.add_argument("--out", type=Path, default=Path("hannet-results/first-gpu"), help="folder of the records")
    args = parser.parse_args()
    if args.rehearse:
        rehearsal.announce()
    if missing := bare.prepare():
        print(f"not on this machine, and done without: {', '.join(missing)}", flush=True)
    import torch

    from first_gpu.running import run_stages
    from first_gpu.stages import FIRST, MORE

    if args.rehearse:
        rehearsal.begin()
        torch.set_num_threads(1)
    stages = tuple(dict.fromkeys((*FIRST, *MORE))) if args.rehearse else MORE if args.more else FIRST
    if unknown := set(args.stages) - {stage.name for stage in stages}:
        parser.error(
            f"there are no stages {', '.join(sorted(unknown))} but {', '.join(stage.name for stage in stages)}"
        )
    stages = tuple(stage for stage in stages if not args.stages or stage.name in args.stages)
    return 1 if run_stages(stages, args.out.resolve(), args.data.resolve(), 60 * args.minutes, args.rehearse) else 0


if __name__ == "__main__":
    raise SystemExit(main())
