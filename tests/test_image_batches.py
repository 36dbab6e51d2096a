import time
from types import SimpleNamespace

import pytest
import torch

from hannet.augment import Augmentation
from hannet.data import Images
from hannet.image_batches import AT_ONCE, Batches, Watch, seed_of
from hannet.recipes import ImageRecipe

CPU = torch.device("cpu")
RECIPE = ImageRecipe(batch=10, epochs=2, augmentation=Augmentation(padding=1, flip=True, policy="cifar10", cutout=2))


def images(count: int = 45) -> Images:
    x = torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(x, torch.arange(count), tuple(map(str, range(count))))


def batches(place: int = 0, count: int = 1, recipe: ImageRecipe = RECIPE, n: int = 45) -> Batches:
    return Batches(images(n), recipe, 3, SimpleNamespace(place=place, count=count, device=CPU))


def test_an_epoch_has_each_image_at_most_once_and_another_order():
    ours = batches()
    epochs = [torch.cat([ours.at(epoch, step)[1] for step in range(ours.per_epoch)]) for epoch in range(2)]
    assert [len(set(y.tolist())) for y in epochs] == [40, 40]
    assert not torch.equal(*epochs)


def test_a_batch_depends_on_its_step_alone():
    x, y = batches().at(1, 2)
    ours = batches()
    ours.at(0, 0)
    ours.at(1, 0)
    again, same = ours.at(1, 2)
    assert torch.equal(x, again)
    assert torch.equal(y, same)


@pytest.mark.parametrize("count", [2, 5])
def test_processes_share_the_joint_batch(count):
    x, y = batches().at(1, 3)
    parts = [batches(place, count).at(1, 3) for place in range(count)]
    assert torch.equal(torch.cat([part for part, _ in parts]), x)
    assert torch.equal(torch.cat([part for _, part in parts]), y)


@pytest.mark.parametrize("count", [1, 3])
def test_measuring_sees_every_image_once_and_unchanged(count):
    n = 3 * AT_ONCE + 7
    plain = images(n)
    seen = [part for place in range(count) for part in batches(place, count, n=n).parts()]
    order = torch.cat([y for _, y in seen]).argsort()
    assert torch.equal(torch.cat([y for _, y in seen])[order], plain.y)
    assert torch.equal(torch.cat([x for x, _ in seen])[order], RECIPE.prepare(plain.x))


def test_seeds_differ():
    assert len({seed_of(a, b) for a in range(20) for b in range(20)} | {seed_of(a) for a in range(20)}) == 420


def test_the_watch_sees_where_time_goes():
    watch = Watch(CPU)
    for number in range(2 * Watch.every):
        with watch.step(number) as made:
            time.sleep(0.002)
            made()
            time.sleep(0.006)
    assert len(watch.steps) == 2
    assert 0.1 < watch.share() < 0.5
    assert watch.share() == 0
