import time
from types import SimpleNamespace

import pytest
import torch

from hannet.data import Images
from hannet.train.batches import LoaderTimer, seed_of
from hannet.vision.augmentation import Augmentation
from hannet.vision.loader import Batches, Prefetcher
from hannet.vision.preprocessing import EVALUATION_BATCH, normalise_and_resize
from hannet.vision.recipe import ImageRecipe

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
    n = 3 * EVALUATION_BATCH + 7
    plain = images(n)
    seen = [part for place in range(count) for part in batches(place, count, n=n).parts()]
    order = torch.cat([y for _, y in seen]).argsort()
    assert torch.equal(torch.cat([y for _, y in seen])[order], plain.y)
    assert torch.equal(
        torch.cat([x for x, _ in seen])[order], normalise_and_resize(plain.x, RECIPE.mean, RECIPE.std, None)
    )


def test_what_comes_next_is_begun_while_the_last_is_in_use():
    told = []

    def begin(key):
        told.append(f"begin {key}")
        return lambda: told.append(f"wait {key}") or key

    ahead = Prefetcher(begin)
    assert [ahead.get(key, key + 1) for key in (4, 5)] == [4, 5]
    assert told == ["begin 4", "wait 4", "begin 5", "wait 5", "begin 6"]
    assert ahead.get(2, 3) == 2  # not what was begun: that is left
    assert told[5:] == ["begin 2", "wait 2", "begin 3"]
    assert list(ahead.begun) == [3]


@pytest.mark.parametrize("name", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_device_is_the_same_with_and_without_a_number(name):
    ours = Batches(images(), RECIPE, 3, SimpleNamespace(place=0, count=1, device=torch.device(name)))
    assert ours.on_device
    assert all(torch.equal(there.cpu(), here) for there, here in zip(ours.at(0, 1), batches().at(0, 1), strict=True))


def far(device: torch.device, n: int = 45) -> Batches:
    """Batches of images that lie where the device is not."""
    ours = Batches(images(n), RECIPE, 3, SimpleNamespace(place=1, count=2, device=device))
    ours.x, ours.on_device = images(n).x, False
    if device.type == "cuda":
        ours.copy_stream = torch.cuda.Stream(device)
    return ours


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_images_far_from_the_device_are_the_same(kind):
    ours, near = far(torch.device(kind)), batches(1, 2)
    places = [(epoch, step) for epoch in range(2) for step in range(ours.per_epoch)]
    for place in [*places, (0, 2), (0, 3)]:
        for there, here in zip(ours.at(*place), near.at(*place), strict=True):
            assert torch.equal(there.cpu(), here)
    for (x, y), (same, classes) in zip(
        far(torch.device(kind), 1200).parts(), batches(1, 2, n=1200).parts(), strict=True
    ):
        assert torch.equal(x.cpu(), same)
        assert torch.equal(y.cpu(), classes)


@pytest.mark.gpu
def test_a_copy_beside_long_work_is_waited_for_and_kept():
    """The device is busy while batches are copied; what each was is looked at once all is done."""
    device = torch.device("cuda")
    ours, near = far(device), batches(1, 2)
    wide = torch.rand(4096, 4096, device=device)
    found = []
    for step in range(ours.per_epoch):
        for _ in range(20):
            wide = (wide @ wide).clamp_(0, 1)
        found.append(ours.at(0, step)[0])
    for step, x in enumerate(found):
        assert torch.equal(x.cpu(), near.at(0, step)[0])


def test_seeds_differ():
    assert len({seed_of(a, b) for a in range(20) for b in range(20)} | {seed_of(a) for a in range(20)}) == 420


def test_the_watch_sees_where_time_goes():
    watch = LoaderTimer(CPU)
    for number in range(2 * LoaderTimer.every):
        with watch.step(number) as made:
            time.sleep(0.002)
            made()
            time.sleep(0.006)
    assert len(watch.steps) == 2
    assert 0.1 < watch.share() < 0.5
    assert watch.share() == 0
