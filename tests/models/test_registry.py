import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from hannet import FCNet, HanMixer, HanNet, MobileViT
from hannet.models import ModelFolderError, registry

NETS = {
    "HanNet": lambda: HanNet(5, 3, width=8, depth=4),
    "HanNet, lipschitz": lambda: HanNet(5, 3, width=8, depth=4, lipschitz=True, reflections=2),
    "FCNet": lambda: FCNet(5, 3, width=8, depth=2),
    "HanMixer": lambda: HanMixer(8, 3, channels=(4, 4, 4, 8, 8), mlp_blocks=1, han_blocks=1),
    "MobileViT": lambda: MobileViT(3, "xxs", "han"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_a_saved_network_comes_back_as_it_was(name, dtype, tmp_path):
    net = NETS[name]().to(dtype)
    net.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    again = registry.load(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert type(again) is type(net)
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    for (key, tensor), (other, loaded) in zip(net.state_dict().items(), again.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(tensor, loaded)
        assert tensor.dtype == loaded.dtype


SMALL = {"in_features": 3, "out_features": 2, "width": 8, "depth": 3}
ARGUMENTS = {
    "HanMixer": {"image_size": 8, "num_classes": 3, "channels": (4, 4, 4, 8, 8)},
    "MobileViT": {"num_classes": 3},
}


@pytest.mark.parametrize("name", ["HanNet", "FCNet", "HanMixer", "MobileViT", "frozen HanNet", "SIREN", "orthogonal"])
def test_a_seed_gives_the_weights_that_it_gives_to_the_class_itself(name):
    options = ARGUMENTS.get(name, SMALL)
    state = torch.random.get_rng_state()
    with torch.device("meta"):  # a default device of the caller changes nothing
        net, again, other = (registry.build_model(name, seed, **options).state_dict() for seed in (5, 5, 6))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    expected = registry.MODELS[name](**options).state_dict()
    assert all(torch.equal(net[key], value) and torch.equal(again[key], value) for key, value in expected.items())
    assert not all(torch.equal(net[key], value) for key, value in other.items())


def test_every_draw_is_the_one_that_a_global_seed_gives():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            given = torch.Generator().manual_seed(3)
            self.parts = [
                torch.randn(4), torch.rand(4), torch.randperm(9), torch.randint(9, (4,)), torch.randint(3, 9, (4,)),
                torch.randn_like(torch.ones(3)), torch.empty(4).normal_(), torch.bernoulli(torch.full((9,), 0.5)),
                torch.multinomial(torch.ones(9), 3), torch.rand(3, generator=given), nn.functional.dropout(torch.ones(9)),
            ]  # fmt: skip

    built = registry.build_model(Draws, 5).parts
    torch.manual_seed(5)
    assert all(torch.equal(mine, expected) for mine, expected in zip(built, Draws().parts, strict=True))
    with pytest.raises(RuntimeError, match=r"aten.native_dropout.default takes no generator"):
        registry.build_model(lambda: torch.native_dropout(torch.ones(3), 0.5, train=True), 5)


def test_threads_that_build_at_once_do_not_share_draws():
    """One stands in the middle of its draws while the other makes all of its own."""
    started, done = threading.Event(), threading.Event()

    def halting():
        first = torch.rand(3)
        started.set()
        assert done.wait(30)
        return nn.ParameterList([first, torch.rand(3)])

    def other():
        assert started.wait(30)
        torch.rand(7)  # of somebody who builds nothing
        net = registry.build_model("HanNet", 1, **SMALL)
        done.set()
        return net

    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        halted, net = (pool.submit(call) for call in (lambda: registry.build_model(halting, 5), other))
        drawn = torch.cat(list(halted.result()))
    torch.random.set_rng_state(state)
    torch.rand(7)
    assert torch.equal(
        torch.cat(list(registry.build_model(lambda: nn.ParameterList(torch.rand(6).split(3)), 5))), drawn
    )
    expected = registry.build_model("HanNet", 1, **SMALL).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in net.result().state_dict().items())


def test_a_network_can_be_registered_by_whoever_defines_it(monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))

    @registry.register("linear")
    def linear(features):
        return torch.nn.Linear(features, features)

    assert registry.build_model("linear", 0, features=3).in_features == 3
    with pytest.raises(ValueError, match="a network named 'linear' is registered already"):
        registry.register("linear")(HanNet)


def test_a_name_that_nobody_registered_is_refused():
    with pytest.raises(ValueError, match=r"kind must be one of HanNet, .*, got 'nope'"):
        registry.build_model("nope", 0)


def test_only_networks_that_can_be_saved_are_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"model": "SIREN", "in_features": 2, "out_features": 1}')
    with pytest.raises(ModelFolderError, match=r"names none of the networks HanNet, FCNet, HanMixer, MobileViT$"):
        registry.load(tmp_path)
