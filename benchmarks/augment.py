"""How fast is the augmentation of a batch of images, against kornia's and against PIL's, an image at a time?

    python benchmarks/augment.py [--batch 256] [--threads 1] [--device cpu] [--out hannet-results/benchmarks]

Random crop, flip, the auto-augment policy of CIFAR-10, Cutout 16, normalisation: of CIFAR-10 where HANNET_DATA has it, else of noise.
kornia (an install of its own) draws one sub-policy a batch, the others one an image. Candidates take turns, so that a busy machine
slows all of them; medians and their ratios are printed and appended to a record. Takes half a minute.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial, update_wrapper
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from hannet.vision.augmentation import (
    BLACK,
    CIFAR10,
    GREY,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    apply,
    draw,
    normalise,
)
from stack import ask, compare, parser_of

SIDE, PADDING, CUTOUT = 32, 4, 16


def real_or_noise(n: int) -> Tensor:
    """The first n training images of CIFAR-10, or noise; (n, 3, 32, 32), uint8."""
    path = Path(os.environ.get("HANNET_DATA", ""), "cifar-10-batches-bin", "data_batch_1.bin")
    if not path.is_file():
        return torch.randint(0, 256, (n, 3, SIDE, SIDE), dtype=torch.uint8)
    rows = np.fromfile(path, np.uint8, n * 3073).reshape(n, 3073)
    return torch.from_numpy(rows[:, 1:].reshape(n, 3, SIDE, SIDE).copy())


def ours(x: Tensor) -> Callable[[], Tensor]:
    """Draw, apply and normalise."""
    kind, generator = Augmentation(PADDING, True, "cifar10", CUTOUT), torch.Generator().manual_seed(0)

    def run() -> Tensor:
        draws = draw(len(x), (SIDE, SIDE), kind, generator, x.device)
        return finished(normalise(apply(x, draws), IMAGENET_MEAN, IMAGENET_STD))

    return run


def kornias(x: Tensor) -> Callable[[], Tensor]:
    """kornia's nearest: its erasing is a rectangle of a share of the image, here the square's, all inside."""
    import kornia.augmentation as K
    from kornia.augmentation.auto import AutoAugment

    share = CUTOUT**2 / SIDE**2
    chain = K.AugmentationSequential(
        K.RandomCrop((SIDE, SIDE), padding=PADDING),
        K.RandomHorizontalFlip(p=0.5),
        AutoAugment("cifar10"),
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
        K.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0)),
    )
    return lambda: finished(chain(x.float() / 255))


def pils(x: Tensor) -> Callable[[], Tensor]:
    """A loop over images on the CPU, as a data loader's worker runs it."""
    pictures = [Image.fromarray(image) for image in x.cpu().permute(0, 2, 3, 1).contiguous().numpy()]
    numbers = np.random.default_rng(0)
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def run() -> Tensor:
        images = np.stack([augmented(picture, numbers) for picture in pictures])
        y = (images.astype(np.float32) / 255 - mean) / std
        for image in y:
            i, j = numbers.integers(SIDE, size=2) - CUTOUT // 2
            image[max(i, 0) : i + CUTOUT, max(j, 0) : j + CUTOUT] = 0
        return finished(torch.from_numpy(y).permute(0, 3, 1, 2).contiguous().to(x.device))

    return run


def augmented(image: Image.Image, numbers: np.random.Generator) -> np.ndarray:
    """Crop, flip and policy of one image."""
    i, j = (int(v) for v in numbers.integers(2 * PADDING + 1, size=2))
    image = ImageOps.expand(image, PADDING, BLACK).crop((j, i, j + SIDE, i + SIDE))
    if numbers.random() < 0.5:
        image = ImageOps.mirror(image)
    for name, odds, level in CIFAR10[numbers.integers(len(CIFAR10))]:
        if numbers.random() < odds:
            image = operation(name, image, level, int(numbers.choice((-1, 1))))
    return np.asarray(image)


def operation(name: str, image: Image.Image, level: int, sign: int) -> Image.Image:
    """One operation of the policy."""
    part, affine = sign * level / 9, Image.Transform.AFFINE
    matrices = {
        "ShearY": (1, 0, 0, 0.3 * part, 1, 0),
        "TranslateX": (1, 0, int(150 / 331 * SIDE * part), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, int(150 / 331 * SIDE * part)),
    }
    if name in matrices:
        return image.transform(image.size, affine, matrices[name], fillcolor=(GREY,) * 3)
    match name:
        case "Rotate":
            return image.rotate(30 * part, fillcolor=(GREY,) * 3)
        case "Posterize":
            return ImageOps.posterize(image, round(8 - 4 * level / 9))
        case "Solarize":
            return ImageOps.solarize(image, 256 - 256 * level / 9)
        case "Invert" | "AutoContrast" | "Equalize":
            return getattr(ImageOps, name.lower())(image)
    return getattr(ImageEnhance, name)(image).enhance(1 + 0.9 * part)


def finished(y: Tensor) -> Tensor:
    """The same, once a GPU has it."""
    if y.is_cuda:
        torch.cuda.synchronize(y.device)
    return y


def speed(args: argparse.Namespace) -> dict[str, float]:
    """A batch, from uint8 to normalised float32: images a second, and how many times as long the others take."""
    x = real_or_noise(args.batch).to(args.device)
    candidates = {"ours": ours(x), "PIL": pils(x)}
    try:
        candidates["kornia"] = kornias(x)
    except ImportError:
        print("  kornia is not installed: left out")
    times = compare(candidates)
    print(f"  {'':>8} {'ms a batch':>12} {'images/s':>12} {'over ours':>12}")
    for name, t in times.items():
        print(f"  {name:>8} {1000 * t:>12.2f} {args.batch / t:>12.0f} {t / times['ours']:>12.2f}")
    found = {f"{name}, images a second": args.batch / t for name, t in times.items()}
    return found | {f"{name} over ours": t / times["ours"] for name, t in times.items() if name != "ours"}


QUESTIONS = {"speed": speed}


def main() -> None:
    """Ask the question."""
    parser = parser_of(__doc__, QUESTIONS)
    parser.set_defaults(threads=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    questions = {name: update_wrapper(partial(question, args), question) for name, question in QUESTIONS.items()}
    ask("augment", questions, args, batch=args.batch, device=args.device)


if __name__ == "__main__":
    main()
