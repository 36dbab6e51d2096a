"""Images to train on from the command line."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hannet.data import images
from hannet.data.images import Images


@pytest.fixture
def own_folder(monkeypatch, tmp_path):
    """The working directory is an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def patterns(monkeypatch):
    """240 images to train on and 50 to test, of ten patterns."""
    prototypes = torch.randint(2, (10, 1, 28, 28))

    def draw(count, seed):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(count) % 10
        noise = torch.randint(100, (count, 1, 28, 28), generator=generator)
        return Images((155 * prototypes[y] + noise).to(torch.uint8), y, tuple("0123456789"))

    parts = {"train": draw(240, 1), "test": draw(50, 2)}
    monkeypatch.setattr(images, "load", lambda _, part, *_progress: replace(parts[part], x=parts[part].x.clone()))
    return parts


@pytest.fixture
def photos(tmp_path):
    """Three classes of 24 pictures whose colour tells the class."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("apples", "limes", "plums")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = generator.integers(0, 120, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"
