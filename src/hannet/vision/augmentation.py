"""Random changes of training images, a batch at a time, on the device where the images are (section 5.3 of the paper).

In this order: a random crop of the image with black around it, a flip left to right, the auto-augment policy, Cutout;
`normalise` comes after. What happens is drawn first, on the CPU, so that it depends on the seed alone and not on the device.
The arithmetic is PIL's, integer for integer: `_moved` is its Image.transform, the rest its ImageOps and ImageEnhance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST = 4096  # of all lengths in pixels: positions are fixed-point numbers of 32 bits
ONE = 1 << 16  # a pixel of them
BLACK = 0  # around a crop, as in torchvision
GREY = 128  # around what the policy moves, as in its first public PyTorch version

# (operation, probability, level of 0 to 9) twice a line: Cubuk et al. 2019, Table 7. Some operations have no level.
CIFAR10 = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)
POLICIES = {"": ((("Invert", 0.0, 0), ("Invert", 0.0, 0)),), "cifar10": CIFAR10}


@dataclass(frozen=True)
class Augmentation:
    """padding of the random crop, pixels; flip left to right at even odds; policy "" or "cifar10"; side of the cutout, pixels."""

    padding: int = 0
    flip: bool = False
    policy: str = ""
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("padding", "cutout"):
            if not 0 <= getattr(self, name) <= LARGEST:
                raise ValueError(f"{name} must be 0 to {LARGEST} pixels, got {getattr(self, name)}")
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, got {self.policy!r}")


class Draws(NamedTuple):
    """What happens to n images, a row each.

    place: (n, 6), where crop and flip take pixels from; hole: (n, 4), the edges of the cutout, top, bottom, left, right; of the
    policy's two stages: kinds: (n, 2), the operation's place in KINDS, on the CPU, which groups by it; levels: (n, 2), its
    strength; moves: (n, 2, 6), where it takes pixels from. `_moved` says how six numbers are a place.
    """

    place: Tensor
    hole: Tensor
    kinds: Tensor
    levels: Tensor
    moves: Tensor

    def part(self, start: int, stop: int) -> "Draws":
        """The rows of images[start:stop]."""
        return Draws(*(field[start:stop] for field in self))


def draw(
    n: int, size: tuple[int, int], kind: Augmentation, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Draws:
    """What happens to each of n images of size (height, width), drawn from a generator of the CPU.

    >>> draws = draw(2, (32, 32), Augmentation(padding=4, flip=True, cutout=16), torch.Generator().manual_seed(0))
    >>> apply(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), draws).shape
    torch.Size([2, 3, 32, 32])
    """
    if not all(1 <= length <= LARGEST for length in size):
        raise ValueError(f"height and width must be 1 to {LARGEST} pixels, got {tuple(size)}")
    if n < 0:
        raise ValueError(f"the number of images must be 0 or more, got {n}")

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (n, *shape), generator=generator, device="cpu")

    shift = integers(-kind.padding, kind.padding + 1, 2)
    place = _crops(shift, mirrored=integers(0, 1 + kind.flip), width=size[1])
    ends = []
    for length in size:
        start = integers(0, length) - kind.cutout // 2
        ends += [start.clamp_min(0), (start + kind.cutout).clamp(0, length)]
    hole = torch.stack(ends, dim=1).to(torch.int32)
    policy = _policy(kind.policy, *size)
    row, stage, sign = integers(0, len(policy.odds), 1), torch.arange(2, device="cpu"), integers(0, 2, 2)
    happens = torch.rand(n, 2, generator=generator, device="cpu") < policy.odds[row, stage]
    levels, moves = (field[row, stage, sign] for field in (policy.levels, policy.moves))
    packed = torch.cat([place, hole, moves.flatten(1), levels.view(torch.int32)], dim=1)
    packed = packed.to(device, non_blocking=True)  # else it would wait for all that a GPU has to do
    place, hole, moves, levels = packed.split([6, 4, 12, 2], dim=1)
    kinds = torch.where(happens, policy.kinds[row, stage], 0)
    return Draws(place, hole, kinds, levels.view(torch.float32), moves.unflatten(1, (2, 6)))


def apply(x: Tensor, draws: Draws) -> Tensor:
    """The images, changed as drawn.  x: (n, 1 or 3, height, width), uint8, of the size drawn for -> the same.

    Each image's result depends on its own row of draws alone. Cutout fills with the mean of ImageNet to the nearest level: what its
    authors' code does, zeros after normalisation (DeVries and Taylor 2017), within 0.01 standard deviations.
    """
    _require_images(x)
    if len(x) != len(draws.place):
        raise ValueError(f"the draws are for {len(draws.place)} images, got {len(x)}")
    x = _moved(x, draws.place, BLACK)
    order = draws.kinds.argsort(dim=0).T.contiguous().to(x.device, non_blocking=True)
    for stage in range(2):
        sizes = draws.kinds[:, stage].bincount(minlength=len(KINDS)).tolist()
        groups = dict(zip(KINDS, order[stage].split(sizes), strict=True))
        _operate(x, groups, draws.levels[:, stage], draws.moves[:, stage])
    return _cut_out(x, draws.hole)


def normalise(x: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    """(x / 255 - mean) / std.  x: (n, 1 or 3, height, width), uint8; mean, std: a number a channel -> the same shape, of dtype."""
    _require_images(x)
    if not x.shape[1] == len(mean) == len(std):
        raise ValueError(f"images of {x.shape[1]} channels need as many means and stds, got {len(mean)} and {len(std)}")
    if not all(s > 0 for s in std):
        raise ValueError(f"std must be above 0, got {tuple(std)}")
    slope = _column(tuple(1 / (255 * s) for s in std), torch.float32, x.device)
    shift = _column(tuple(-m / s for m, s in zip(mean, std, strict=True)), torch.float32, x.device)
    return torch.addcmul(shift, x.float(), slope).to(dtype)


def _require_images(x: Tensor) -> None:
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 of shape (n, 1 or 3, height, width), got {x.dtype} of shape {tuple(x.shape)}"
        )


@lru_cache
def _column(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number a channel, (channels, 1, 1); kept, because to send it to a GPU would wait for it."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


class _Policy(NamedTuple):
    """Tables of each sub-policy and stage: kinds, odds: (rows, 2); of both signs too: levels: (rows, 2, 2); moves: (rows, 2, 2, 6)."""

    kinds: Tensor
    odds: Tensor
    levels: Tensor
    moves: Tensor


@lru_cache
def _policy(name: str, height: int, width: int) -> _Policy:
    rows = POLICIES[name]
    kinds = [[KINDS.index(kind if kind in KINDS else MOVE) for kind, _, _ in row] for row in rows]
    odds = [[odd for _, odd, _ in row] for row in rows]
    levels = [[[_strength(kind, level, sign) for sign in (-1, 1)] for kind, _, level in row] for row in rows]
    moves = [
        [[_matrix(kind, sign * level / 9, height, width) for sign in (-1, 1)] for kind, _, level in row] for row in rows
    ]
    tensor = partial(torch.tensor, device="cpu")
    return _Policy(tensor(kinds), tensor(odds), tensor(levels), tensor(moves, dtype=torch.int32))


def _strength(kind: str, level: int, sign: int) -> float:
    """What a level means, over the paper's ranges: bits that stay, the least grey level that turns, or the factor of a blend.

    A blend's factor lies as far above 1 as below at either sign, as in torchvision; the paper's own code has 0.1 + 0.18 level.
    """
    match kind:
        case "Posterize":
            return round(8 - 4 * level / 9)
        case "Solarize":
            return 256 - 256 * level / 9
    return 1 + sign * 0.1 * level


def _matrix(kind: str, part: float, height: int, width: int) -> list[int]:
    """The place of an operation that moves pixels, at a part in [-1, 1] of the paper's range, as PIL would round it."""
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    match kind:
        case "ShearX":
            b = 0.3 * part
        case "ShearY":
            d = 0.3 * part
        case "TranslateX":
            c = int(150 / 331 * width * part)
        case "TranslateY":
            f = int(150 / 331 * height * part)
        case "Rotate":
            a, b = math.cos(math.radians(30 * part)), -math.sin(math.radians(30 * part))
            d, e = -b, a
            c, f = width / 2 - a * width / 2 - b * height / 2, height / 2 - d * width / 2 - e * height / 2
    return [math.floor(ONE * v + 0.5) for v in (a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2)]


def _crops(shift: Tensor, mirrored: Tensor, width: int) -> Tensor:
    """The place (n, 6) of a shift (n, 2) down and right, then of a flip where mirrored (n,) is 1."""
    down, right = shift.unbind(1)
    zero, step = torch.zeros_like(down), 1 - 2 * mirrored
    across = right + mirrored * (width - 1)
    place = ONE * torch.stack([step, zero, across, zero, zero + 1, down], dim=1)
    return (place + place.new_tensor([0, 0, ONE // 2] * 2)).to(torch.int32)


def _moved(x: Tensor, place: Tensor, fill: int) -> Tensor:
    """Pixel (row i, column j) from column a j + b i + c, row d j + e i + f, rounded down.  x: (n, c, h, w); place: (n, 6), a to f."""
    n, channels, h, w = x.shape
    i = torch.arange(h, device=x.device, dtype=torch.int32)[:, None]
    j = torch.arange(w, device=x.device, dtype=torch.int32)
    a, b, c, d, e, f = place[:, :, None, None].unbind(1)
    row = (d * j + (e * i + f)).bitwise_right_shift_(16).clamp_(-1, h)
    column = (a * j + (b * i + c)).bitwise_right_shift_(16).clamp_(-1, w)
    source = row.add_(1).mul_(w + 2).add_(column).add_(1).flatten(1).long()
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), value=fill).flatten(2)
    return padded.gather(2, source[:, None].expand(n, channels, h * w)).view(x.shape)


def _operate(x: Tensor, groups: dict[str, Tensor], levels: Tensor, moves: Tensor) -> None:
    """One stage of the policy, in place: to each kind of operation the rows of its group."""
    if len(rows := groups[MOVE]):
        x.index_copy_(0, rows, _moved(x.index_select(0, rows), moves.index_select(0, rows), GREY))
    for kind, blurred in (("Color", _grey), ("Sharpness", _smooth)):
        if len(rows := groups[kind]):
            images = x.index_select(0, rows)
            x.index_copy_(0, rows, _blend(blurred(images), images, levels.index_select(0, rows)[:, None, None, None]))
    named = [kind for kind in TABLES if len(groups[kind])]
    if not named:
        return
    rows = torch.cat([groups[kind] for kind in named])
    images = x.index_select(0, rows).flatten(2)
    strengths = levels.index_select(0, rows)[:, None, None]
    sizes = [len(groups[kind]) for kind in named]
    parts = zip(named, images.split(sizes), strengths.split(sizes), strict=True)
    every = torch.arange(256, device=x.device)
    tables = (TABLES[kind](every, part, strength).to(torch.uint8) for kind, part, strength in parts)
    table = torch.cat([each.expand(size, x.shape[1], 256) for each, size in zip(tables, sizes, strict=True)])
    x.index_copy_(0, rows, table.gather(2, images.long()).view(-1, *x.shape[1:]))


def _blend(start: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    """start + factor (end - start), cut off to whole levels."""
    start, end = start.float(), end.float()
    return ((end - start) * factor).add_(start).clamp_(0, 255).to(torch.uint8)


def _grey(x: Tensor) -> Tensor:
    """The luma of ITU-R 601 as PIL rounds it.  x: (n, 1 or 3, ...), uint8 -> (n, 1, ...)."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.int().split(1, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + ONE // 2) >> 16


def _smooth(x: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels whose middle counts five times, rounded; the outermost pixels stay.  x: (n, c, h, w), uint8 -> float."""
    wide = x.float()
    three = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    middle = wide[:, :, 1:-1, 1:-1]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    middle.copy_(nine.add_(middle, alpha=4).add_(6.5).div_(13).floor_())
    return wide


def _contrast(levels: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    mean = _grey(x).double().mean(2, keepdim=True).add_(0.5).floor_()
    return _blend(mean, levels, factor)


def _auto_contrast(levels: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel from black at its darkest pixel to white at its lightest."""
    low, high = (end.double() for end in torch.aminmax(x, dim=2, keepdim=True))
    scale = torch.tensor(255.0, dtype=torch.double, device=high.device) / (high - low)  # 255 / tensor would round twice
    stretched = (levels * scale).add_(-low * scale).clamp_(0, 255)
    return torch.where(high > low, stretched, levels)


def _equalize(levels: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """Replace each level of a channel by the share of its pixels that are darker, so that all levels become as frequent."""
    counts = torch.zeros(*x.shape[:2], 256, dtype=torch.int32, device=x.device)
    counts.scatter_add_(2, x.long(), torch.ones((), dtype=torch.int32, device=x.device).expand(x.shape))
    lightest = counts.gather(2, x.amax(2, keepdim=True).long())
    step = (x.shape[2] - lightest) // 255
    darker = counts.cumsum(2) - counts
    equalized = ((darker + step // 2) // step.clamp_min(1)).clamp_max_(255)
    return torch.where(step > 0, equalized, levels)


# An operation that maps level to level is a table: the levels 0 to 255, pixels (m, channels, h w), strength (m, 1, 1) -> broadcasts to
# (m, channels, 256), rounded down to whole levels.
TABLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "Invert": lambda levels, _x, _: 255 - levels,
    "Solarize": lambda levels, _x, threshold: torch.where(levels < threshold, levels, 255 - levels),
    "Posterize": lambda levels, _x, bits: levels >> (8 - bits.long()) << (8 - bits.long()),
    "Brightness": lambda levels, _x, factor: _blend(torch.zeros_like(levels), levels, factor),
    "Contrast": _contrast,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
}
MOVE = "Move"  # ShearX, ShearY, TranslateX, TranslateY and Rotate, all at once
KINDS = ("", MOVE, "Color", "Sharpness", *TABLES)


def _cut_out(x: Tensor, hole: Tensor) -> Tensor:
    """Fill the hole of each image, in place.  hole: (n, 4)."""
    i, j = (torch.arange(length, device=x.device) for length in x.shape[2:])
    top, bottom, left, right = hole[:, :, None].unbind(1)
    inside = ((i >= top) & (i < bottom))[:, None, :, None] & ((j >= left) & (j < right))[:, None, None, :]
    levels = [round(255 * mean) for mean in IMAGENET_MEAN]
    if x.shape[1] == 1:
        levels = [round(sum(levels) / len(levels))]
    fill = _column(tuple(levels), torch.uint8, x.device)
    return x.mul_(~inside).add_(inside * fill)
