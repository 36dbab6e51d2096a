import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanNet, HanStack
from hannet.experiments.paper import _mnist
from hannet.experiments.paper._mnist import (
    ALL,
    CLASSES,
    FEW,
    PIXELS,
    Digits,
    build,
    digits,
    han_classifier,
    iterations,
    logits,
)
from hannet.train.recipe import Recipe


def silent(_) -> None:
    pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """90 images of each part in place of MNIST, each with one bright row of pixels that tells its class."""

    def whole(part):
        generator = torch.Generator().manual_seed(len(part))
        y = torch.arange(90) % 10
        x = 0.1 * torch.rand(90, 28, 28, generator=generator)
        x[torch.arange(90), 2 * y] += 0.8
        return Digits(x.flatten(1), y)

    monkeypatch.setattr(_mnist, "_whole", whole)
    for name, value in {"train": 50, "validation": 20}.items():
        monkeypatch.setitem(FEW, name, value)


def test_parts_share_no_image_and_leave_none_out():
    whole = _mnist._whole("train")
    parts = [digits(FEW, part) for part in ("train", "validation", "rest", "test")]
    assert [len(part.y) for part in parts] == [50, 20, 40 + 90, 90]
    rows = [{tuple(row.tolist()) for row in part.x} for part in parts]
    assert not rows[0] & (rows[1] | rows[2] | rows[3])
    assert rows[1] < rows[2]
    assert rows[3] < rows[2]
    assert len(rows[0] | rows[2]) == 180
    assert torch.equal(digits(FEW, "train").x, parts[0].x)
    assert not torch.equal(digits(FEW | {"split_seed": 1}, "train").x, parts[0].x)
    assert {tuple(row.tolist()) for row in digits(ALL | {"train": 90}, "train").x} == {
        tuple(r.tolist()) for r in whole.x
    }


def test_images_keep_their_class():
    for part in ("train", "validation", "rest", "test"):
        held = digits(FEW, part)
        assert torch.equal(held.x.view(-1, 28, 28)[:, :20:2].mean(2).argmax(1), held.y)
        assert held.accuracy(nn.functional.one_hot(held.y, 10).float()) == 1


def test_accuracy_of_several_networks():
    held = Digits(torch.zeros(4, 1), torch.tensor([0, 1, 2, 0]))
    outputs = torch.eye(3)[torch.tensor([[0, 1, 2, 0], [0, 0, 0, 0]])]
    assert_close(held.accuracy(outputs), torch.tensor([1.0, 0.5]).double())


def test_networks_of_a_config_start_from_their_seed():
    configs = [
        {"kind": "Han-layers", "layers": 3},
        {"kind": "HanNet", "width": 800, "depth": 3, "lipschitz": True},
        {"kind": "FCNet", "width": 20, "depth": 1},
    ]
    state = torch.get_rng_state()
    for config, kind in zip(configs, (nn.Sequential, HanNet, FCNet), strict=True):
        one, same, other = build(config, 4), build(config, 4), build(config, 5)
        assert isinstance(one, kind)
        assert one(torch.ones(2, PIXELS)).shape == (2, CLASSES)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
        assert not torch.equal(next(one.parameters()), next(other.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert set(configs[0]) == {"kind", "layers"}


def test_han_layers_stand_straight_on_the_pixels():
    net = han_classifier(20)
    assert [type(module) for module in net] == [HanStack, nn.Linear]
    assert _mnist.parameters(net) == 20 * 2 * PIXELS + (PIXELS + 1) * CLASSES == 39_210
    assert_close(net[1].weight @ net[1].weight.mT, torch.eye(CLASSES), atol=1e-5, rtol=0)


def test_iterations_leave_out_a_last_batch_that_is_not_full():
    assert iterations({"train": 1000}, 256, 7) == 21


def test_fits_side_by_side_and_tells():
    networks, told = [build({"kind": "Han-layers", "layers": 2}, seed) for seed in (0, 1)], []
    recipe = Recipe(lr=3e-3, optimizer="adam", loss="cross_entropy", batch=25, iterations=60)
    _mnist.fit(networks, [recipe] * 2, [0, 1], FEW, "two nets", told.append)
    assert (told[-1].step, told[-1].total, told[-1].label) == (60, 60, "two nets")
    assert list(told[-1].metrics) == ["training loss"]
    test = digits(FEW, "test")
    found = logits(networks, test.x, rows=37)
    assert_close(found, torch.stack([network(test.x) for network in networks]).detach())
    assert (test.accuracy(found) > 0.9).all()


def test_steps_of_a_slow_part_are_told_at_most_once_a_second():
    told = []
    steps = _mnist.Steps("a net, under PGD", "points", told.append)
    for done in range(1, 101):
        steps(done, 100)
    assert (told[-1].step, told[-1].total, told[-1].unit) == (100, 100, "points")
    assert len(told) < 20
