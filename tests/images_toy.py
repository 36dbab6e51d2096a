"""Tiny sets of images and a tiny network for the tests of image training; run as a program, one training of it."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from hannet.data.images import Images
from hannet.models import HanMixer
from hannet.vision.augmentation import Augmentation
from hannet.vision.recipe import ImageRecipe

CLASSES = ("red", "green", "blue")
TINY = ("--width", "784", "--depth", "2", "--epochs", "3", "--batch", "16")  # of hannet train images
MIXER = ("--model", "han-mixer", "--width", "16", "--depth", "2", "--epochs", "6", "--batch", "16", "--lr", "0.01")
RECIPE = ImageRecipe(
    lr=3e-3, batch=16, epochs=3, augmentation=Augmentation(padding=1, flip=True, cutout=2), milestones=(0.5,), ema=0.9
)


def launched(
    program: str, *arguments: object, processes: int = 1, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A program run in so many processes, and what it printed unless it has to succeed."""
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    return subprocess.run(
        [sys.executable, *launch, program, *map(str, arguments)],
        check=check,
        capture_output=not check,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )


def toy_images(count: int, seed: int) -> Images:
    """Images (3, 8, 8) whose class is the brightest colour."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randint(128, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    x[torch.arange(count), y] += 100
    return Images(x, y, CLASSES)


def toy_network() -> HanMixer:
    torch.manual_seed(0)
    return HanMixer(8, 3, channels=(4, 4, 8, 8, 8), mlp_blocks=1, han_blocks=2)


def main(folder: str, out: str, epochs: str, minutes: str, stop: str = "") -> None:
    """Train, from what is in the folder; the first process writes weights and history. stop: the step of the last one with SIGTERM."""
    import atexit
    import json
    import signal
    from dataclasses import replace
    from itertools import count

    from hannet.experiments.store import serialize_weights
    from hannet.train.distributed import DistributedContext
    from hannet.vision.pipeline import train_classifier

    def living() -> None:
        threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        Path(f"{out}.threads{os.environ.get('RANK', '')}").write_text("".join(threads))

    atexit.register(living)  # the first to register is the last to be called
    torch.set_num_threads(1)
    network = toy_network()
    recipe = replace(RECIPE, epochs=int(epochs))
    kept = Path(folder.format(place=DistributedContext().place)) if folder else None
    if stop and DistributedContext().place == DistributedContext().count - 1:
        steps = count(1)
        network.register_forward_pre_hook(
            lambda module, _: (
                signal.raise_signal(signal.SIGTERM) if module.training and next(steps) == int(stop) else None
            )
        )
    options = {"validation": toy_images(30, 2), "checkpoint": kept, "minutes": float(minutes)}
    history = train_classifier(network, toy_images(96, 1), recipe, 5, **options)
    if DistributedContext().first:
        Path(out).write_bytes(serialize_weights(network))
        Path(out + ".json").write_text(
            json.dumps([DistributedContext().count, history.train_loss, history.train_error, history.validation_error])
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
