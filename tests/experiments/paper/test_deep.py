import math

import pytest
import torch

from hannet.experiments.paper import _deep
from hannet.models.registry import build_model

KINDS = ("HanNet", "FCNet", "orthogonal FCNet", "orthogonal", "residual")


def net_of(kind: str, depth: int = 6) -> torch.nn.Module:
    return build_model(kind, seed=0, in_features=5, out_features=3, width=8, depth=depth)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_one_by_one_are_the_net(kind):
    net, x = net_of(kind), torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    hidden, last = _deep.layers_of(net)
    assert len(hidden) == 6
    expected = net(x)
    for layer in hidden:
        x = layer(x)
    torch.testing.assert_close(last(x), expected)


def test_a_net_of_another_kind_has_no_known_layers():
    with pytest.raises(TypeError, match="hidden layers of a Linear"):
        _deep.layers_of(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("kind", "kept"), [("HanNet", True), ("orthogonal FCNet", True), ("orthogonal", True), ("FCNet", False)]
)
def test_orthogonal_layers_keep_the_norm_of_the_gradient_at_the_start(kind, kept):
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    norms = _deep.gradient_norms(net_of(kind, 30), x, lambda outputs: outputs.square().mean())
    assert len(norms) == 30
    assert (_deep.spread(norms) < 1.001) == kept


def test_gradient_norms_are_those_of_autograd():
    net, x = net_of("FCNet", 2), torch.randn(7, 5)
    first = net.layers[:2](x).detach().requires_grad_()
    net.layers[2:](first).sum().backward()
    norms = _deep.gradient_norms(net, x, torch.sum)
    assert norms[0] == pytest.approx(float(first.grad.norm()), rel=1e-5)


def test_distances_that_layers_keep_and_lose():
    net, x = net_of("FCNet", 3), torch.rand(7, 5)
    with torch.no_grad():
        for layer in net.layers[2:6:2]:
            layer.weight.copy_(3 * torch.eye(8))
            layer.bias.zero_()
    assert _deep.distance_kept(net, x) == pytest.approx(1)
    with torch.no_grad():
        net.layers[4].weight.zero_()
        net.layers[4].bias.fill_(1.0)
    assert _deep.distance_kept(net, x) == 0


def test_spread():
    assert _deep.spread([2.0, 1.0, 4.0]) == 4
    assert _deep.spread([1.0, 0.0]) == math.inf
    assert math.isnan(_deep.spread([1.0, math.inf]))


def test_checkpointing_changes_no_gradient():
    net, x = net_of("residual", 20), torch.randn(7, 5)
    plain = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    net.checkpointing = True
    for a, b in zip(plain, torch.autograd.grad(net(x).sum(), list(net.parameters())), strict=True):
        assert torch.equal(a, b)


def test_a_step_holds_parameters_averages_gradients_and_activations(capfd):
    net, x = build_model("FCNet", seed=0, in_features=8, out_features=1, width=256, depth=4), torch.randn(1000, 8)
    seconds, held = _deep.step_cost(net, x, torch.sum, steps=1)
    parameters = 4 * sum(p.numel() for p in net.parameters())
    activations = 4 * 4 * 256 * 1000
    assert seconds > 0
    assert 3 * parameters + activations < held < 5 * parameters + 4 * activations
    assert not capfd.readouterr().err  # the profiler's


def test_checkpointing_takes_less_memory():
    net, x = build_model("residual", seed=0, in_features=8, out_features=1, width=16, depth=60), torch.randn(500, 8)
    _, whole = _deep.step_cost(net, x, torch.sum, steps=1)
    net.checkpointing = True
    _, less = _deep.step_cost(net, x, torch.sum, steps=1)
    assert less < whole / 2
