import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hannet.vision import augmentation
from hannet.vision.augmentation import CIFAR10, IMAGENET_MEAN, IMAGENET_STD, Augmentation, apply, draw, normalise

PIL = pytest.importorskip("PIL")
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402

FULL = Augmentation(padding=4, flip=True, policy="cifar10", cutout=16)
SIZES = [(32, 32), (33, 20), (7, 13), (2, 9), (1, 1)]
OPERATIONS = sorted({step[0] for row in CIFAR10 for step in row} | {"ShearX"})
SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Contrast", "Color", "Sharpness"}
NONE = ("Invert", 0.0, 0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, channels=3, size=(32, 32)):
    """Of noise, a few dark levels, noise of low contrast, one level, and steps of grey, in turn; uint8."""
    x = torch.randint(0, 256, (n, channels, *size), generator=seeded(1))
    x[1::5] %= 4
    x[2::5] = 100 + x[2::5] // 6
    x[3::5] = x[3::5, :, :1, :1]
    x[4::5] = torch.linspace(0, 255, size[0] * size[1]).long().view(size)
    return x.to(torch.uint8)


def pil(x):
    pixels = x.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def tensor(image):
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def moved(image, matrix):
    grey = 128 if image.mode == "L" else (128, 128, 128)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=grey)


def operation(name, image, level, sign):
    """One operation of the policy on one image, as PIL and torchvision's scale of levels have it."""
    part, (w, h) = sign * level / 9, image.size
    match name:
        case "ShearX":
            return moved(image, (1, 0.3 * part, 0, 0, 1, 0))
        case "ShearY":
            return moved(image, (1, 0, 0, 0.3 * part, 1, 0))
        case "TranslateX":
            return moved(image, (1, 0, int(150 / 331 * w * part), 0, 1, 0))
        case "TranslateY":
            return moved(image, (1, 0, 0, 0, 1, int(150 / 331 * h * part)))
        case "Rotate":
            return image.rotate(30 * part, fillcolor=128 if image.mode == "L" else (128, 128, 128))
        case "Posterize":
            return ImageOps.posterize(image, round(8 - 4 * level / 9))
        case "Solarize":
            return ImageOps.solarize(image, 256 - 256 * level / 9)
        case "Invert" | "AutoContrast" | "Equalize":
            return getattr(ImageOps, name.lower())(image)
    return getattr(ImageEnhance, name)(image).enhance(1 + 0.9 * part)


def drawn_operation(image, draws, i, stage):
    """What a row of the draws says of one stage, on one image."""
    kind, level = augmentation.KINDS[draws.kinds[i, stage]], float(draws.levels[i, stage])
    match kind:
        case "":
            return image
        case augmentation.MOVE:
            a, b, c, d, e, f = (draws.moves[i, stage].double() / 65536).tolist()
            return moved(image, (a, b, c - a / 2 - b / 2, d, e, f - d / 2 - e / 2))
        case "Posterize" | "Solarize":
            return getattr(ImageOps, kind.lower())(image, int(level) if kind == "Posterize" else level)
        case "Invert" | "AutoContrast" | "Equalize":
            return getattr(ImageOps, kind.lower())(image)
    return getattr(ImageEnhance, kind)(image).enhance(level)


def is_one_of(x, candidates):
    """The places in candidates of what x equals; at least one."""
    found = [name for name, candidate in candidates.items() if torch.equal(x, candidate)]
    assert found
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_pils_at_each_level_and_sign(name, size, channels, monkeypatch):
    x = images(20, channels, size)
    seen = Counter()
    for level in range(10):
        monkeypatch.setitem(augmentation.POLICIES, f"{name} {level}", (((name, 1.0, level), NONE),))
        y = apply(x, draw(len(x), size, Augmentation(policy=f"{name} {level}"), seeded(level)))
        for before, after in zip(x, y, strict=True):
            both = {sign: tensor(operation(name, pil(before), level, sign)) for sign in (-1, 1)}
            signs = is_one_of(after, both)
            if len(signs) == 1:
                seen[signs[0]] += 1
    if name in SIGNED and min(size) > 1 and not (name == "Color" and channels == 1):
        assert min(seen[-1], seen[1]) > 0.3 * seen.total() or min(size) == 2  # of two rows, hardly anything moves
    else:
        assert name in SIGNED or not seen


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_policy_is_pils_image_by_image(size, channels):
    x = images(300, channels, size)
    draws = draw(len(x), size, Augmentation(policy="cifar10"), seeded(2))
    assert set(draws.kinds[:, 0].tolist()) | set(draws.kinds[:, 1].tolist()) == set(range(len(augmentation.KINDS)))
    for i, (before, after) in enumerate(zip(x, apply(x, draws), strict=True)):
        image = pil(before)
        for stage in range(2):
            image = drawn_operation(image, draws, i, stage)
        assert torch.equal(after, tensor(image)), i


def test_operations_come_as_often_as_the_policy_says():
    n = 50_000
    draws = draw(n, (32, 32), Augmentation(policy="cifar10"), seeded())
    for stage in range(2):
        expected = Counter()
        for row in CIFAR10:
            name, odds, _ = row[stage]
            expected[name if name in augmentation.KINDS else augmentation.MOVE] += odds / len(CIFAR10)
        shares = draws.kinds[:, stage].bincount(minlength=len(augmentation.KINDS)) / n
        for kind, share in zip(augmentation.KINDS[1:], shares[1:].tolist(), strict=True):
            p = expected[kind]
            assert abs(share - p) <= 5 * (p * (1 - p) / n) ** 0.5, kind


def test_the_policy_is_of_25_pairs_of_known_operations():
    assert len(CIFAR10) == 25
    assert all(0 <= odds <= 1 and 0 <= level <= 9 for row in CIFAR10 for _, odds, level in row)
    assert (
        len(augmentation.KINDS) == len(set(OPERATIONS) - {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}) + 2
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [(5, 4), (1, 3)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_are_a_plain_loops_and_all_come_up(size, padding, flip):
    x = torch.randint(1, 256, (3000, 3, *size), generator=seeded(3)).to(torch.uint8)
    y = apply(x, draw(len(x), size, Augmentation(padding=padding, flip=flip), seeded(4)))
    h, w = size
    seen = Counter()
    for before, after in zip(x, y, strict=True):
        wide = torch.nn.functional.pad(before, (padding,) * 4)
        crops = {
            (i, j, mirrored): wide[:, i : i + h, j : j + w].flip(2) if mirrored else wide[:, i : i + h, j : j + w]
            for i, j in itertools.product(range(2 * padding + 1), repeat=2)
            for mirrored in range(1 + flip)
        }
        found = is_one_of(after, crops)
        if len(found) == 1:
            seen[found[0]] += 1
    visible = {(i, j) for i in range(2 * padding + 1) for j in range(2 * padding + 1)}
    visible = {(i, j) for i, j in visible if abs(i - padding) < h - 1 and abs(j - padding) < w - 1}
    assert {(i, j) for i, j, _ in seen} >= visible
    if visible:
        assert {mirrored for *_, mirrored in seen} == set(range(1 + flip))


@pytest.mark.parametrize("side", [0, 1, 3, 4, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_is_a_plain_loops_and_all_centres_come_up(side, channels):
    size, n = (7, 5), 2000
    x = images(1, channels, size).expand(n, channels, *size) // 2
    y = apply(x, draw(n, size, Augmentation(cutout=side), seeded(5)))
    fill = torch.tensor([124, 116, 104] if channels == 3 else [115], dtype=torch.uint8)[:, None, None]
    centres = {}
    for i, j in itertools.product(range(size[0]), range(size[1])):
        cut = x[0].clone()
        top, left = i - side // 2, j - side // 2
        cut[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill
        centres[i, j] = cut
    seen = {place for after in y for place in is_one_of(after, centres)}
    assert seen == set(centres)


def test_order_is_crop_flip_policy_cutout(monkeypatch):
    monkeypatch.setitem(augmentation.POLICIES, "negative", ((("Invert", 1.0, 0), NONE),))
    kind = Augmentation(padding=8, policy="negative", cutout=4)
    y = apply(torch.full((200, 1, 8, 8), 10, dtype=torch.uint8), draw(200, (8, 8), kind, seeded()))
    assert set(y.unique().tolist()) == {
        115,
        245,
        255,
    }  # of the cutout, the image, the crop's border: only that turned white


def test_one_images_result_depends_on_its_draws_alone():
    x, draws = images(40), draw(40, (32, 32), FULL, seeded())
    y = apply(x, draws)
    for start, stop in ((0, 40), (0, 1), (7, 21), (39, 40), (5, 5)):
        assert torch.equal(apply(x[start:stop], draws.part(start, stop)), y[start:stop])


def test_the_seed_decides_and_the_input_stays():
    x = images(40)
    kept = x.clone()
    first, again, other = (apply(x, draw(40, (32, 32), FULL, seeded(seed))) for seed in (0, 0, 1))
    assert torch.equal(x, kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_default_device_does_not_matter():
    x = images(40)
    expected = apply(x, draw(40, (32, 32), FULL, seeded()))
    augmentation._policy.cache_clear()
    with torch.device("meta"):  # as torch.set_default_device
        draws = draw(40, (32, 32), FULL, seeded())
        assert torch.equal(apply(x, draws), expected)


def test_layout_in_memory_does_not_matter():
    x, draws = images(40), draw(40, (32, 32), FULL, seeded())
    expected = apply(x, draws)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(apply(last, draws), expected)
    assert torch.equal(apply(x.flip(0).flip(0)[:, :, :, ::1], draws), expected)
    assert torch.equal(normalise(last, IMAGENET_MEAN, IMAGENET_STD), normalise(x, IMAGENET_MEAN, IMAGENET_STD))


def test_nothing_asked_changes_nothing():
    x = images(20)
    assert torch.equal(apply(x, draw(20, (32, 32), Augmentation(), seeded())), x)


@pytest.mark.parametrize("n", [0, 1])
def test_small_batches(n):
    y = apply(images(n), draw(n, (32, 32), FULL, seeded()))
    assert y.shape == (n, 3, 32, 32)
    assert normalise(y, IMAGENET_MEAN, IMAGENET_STD).shape == y.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_normalise_is_the_formula(dtype):
    x = torch.arange(256, dtype=torch.uint8).expand(2, 3, 1, 256)
    mean, std = (torch.tensor(values, dtype=torch.double)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    found = normalise(x, IMAGENET_MEAN, IMAGENET_STD, dtype)
    assert found.dtype == dtype
    expected = ((x.double() / 255 - mean) / std).to(dtype).float()
    assert_close(found.float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


def test_autocontrast_is_pils_for_every_darkest_and_lightest_level():
    for low, high in itertools.combinations(range(0, 256, 3), 2):
        x = torch.arange(low, high + 1).to(torch.uint8)[None, None]
        table = augmentation.TABLES["AutoContrast"](torch.arange(256), x, torch.ones(1, 1, 1)).to(torch.uint8)
        assert torch.equal(table[0, 0, low : high + 1], tensor(ImageOps.autocontrast(pil(x[:, :1])))[0, 0]), (low, high)


def test_cutout_is_zero_after_normalisation():
    y = apply(images(1), draw(1, (32, 32), Augmentation(cutout=100), seeded()))
    assert normalise(y, IMAGENET_MEAN, IMAGENET_STD).abs().max() < 0.01


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"padding": -1}, "padding must be 0 to 4096 pixels, got -1"),
        ({"cutout": 5000}, "cutout must be 0 to 4096 pixels, got 5000"),
        ({"policy": "svhn"}, "policy must be one of '', 'cifar10', got 'svhn'"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Augmentation(**settings)


def test_bad_draws_and_images_are_refused():
    draws = draw(2, (8, 8), Augmentation(), seeded())
    with pytest.raises(ValueError, match=r"height and width must be 1 to 4096 pixels, got \(0, 8\)"):
        draw(2, (0, 8), Augmentation(), seeded())
    with pytest.raises(ValueError, match="the number of images must be 0 or more, got -1"):
        draw(-1, (8, 8), Augmentation(), seeded())
    with pytest.raises(ValueError, match="the draws are for 2 images, got 3"):
        apply(images(3, size=(8, 8)), draws)
    with pytest.raises(ValueError, match=r"images must be uint8 of shape .* got torch.float32 of shape \(2, 3, 8, 8\)"):
        apply(torch.zeros(2, 3, 8, 8), draws)
    with pytest.raises(ValueError, match=r"images must be uint8 of shape .* got torch.uint8 of shape \(2, 4, 8, 8\)"):
        apply(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), draws)
    with pytest.raises(ValueError, match="images of 1 channels need as many means and stds, got 3 and 3"):
        normalise(images(2, 1), IMAGENET_MEAN, IMAGENET_STD)
    with pytest.raises(ValueError, match="std must be above 0"):
        normalise(images(2), IMAGENET_MEAN, (1.0, 0.0, 1.0))


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_gpu_gives_the_same_pixels(size, channels):
    x = images(300, channels, size)
    here, there = (draw(300, size, FULL, seeded(), device) for device in ("cpu", "cuda"))
    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(ours, theirs.cpu())
    assert torch.equal(apply(x, here), apply(x.cuda(), there).cpu())
