"""CIFAR-10 from the folder that HANNET_DATA names, in parts under 60 MB for a machine that can download nothing.

    python benchmarks/pack_cifar.py [--out hannet-results] [--parts 2]

first_gpu.py reads them: all parts, or one alone, which is that share of the images. Nothing is lost: each part is read back and compared.
"""

import argparse
from pathlib import Path

import numpy as np

from first_gpu import packed
from hannet.data import images
from hannet.storage.files import write_atomic

_MOST = 60_000_000  # bytes


def main() -> None:
    """Read, pack, write, read back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("hannet-results"), help="folder of the parts")
    parser.add_argument("--parts", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    loaded = {name: images.load("cifar10", name) for name in ("train", "test")}
    sets = {name: (each.x.numpy(), each.y.numpy()) for name, each in loaded.items()}
    for number, path in enumerate(packed.names(args.out, args.parts)):
        part = {name: (x[number :: args.parts], y[number :: args.parts]) for name, (x, y) in sets.items()}
        write_atomic(path, content := packed.pack(part))
        for name, (x, y) in part.items():
            if not all(map(np.array_equal, packed.unpack([path], name), (x, y))):
                raise SystemExit(f"{path} does not give back the images that were packed")
        print(f"{path}: {len(content):,} bytes")
        if len(content) > _MOST:
            raise SystemExit(f"{path} is larger than {_MOST:,} bytes: more parts are needed, --parts {args.parts + 1}")


if __name__ == "__main__":
    main()
