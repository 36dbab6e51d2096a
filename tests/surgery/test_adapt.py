import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet.surgery import HanAdapter, SurgeryError, adapt


def model(dtype=torch.double):
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).to(dtype).eval()


def trained(net, x, steps=5):
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 1).square().sum().backward()
        optimizer.step()
    return net


def reflection(u):
    return torch.eye(len(u), dtype=u.dtype) - 2 * torch.outer(u, u) / (u @ u)


def test_an_adapter_is_its_equation():
    layer, x = HanAdapter(nn.Linear(6, 4).double(), 4), torch.randn(2, 3, 6, dtype=torch.double)
    nn.init.normal_(layer.u)
    first, second, third, fourth = map(reflection, layer.u)
    turned = fourth @ third @ second @ first
    assert_close(layer(x), nn.functional.linear(x, layer.base.weight @ turned, layer.base.bias))
    assert_close(turned @ turned.mT, torch.eye(6, dtype=torch.double))
    assert torch.autograd.gradcheck(layer, x[:1, :1].requires_grad_())


def test_it_starts_as_the_identity_and_learns_nothing_else():
    net, x = model(), torch.randn(5, 6, dtype=torch.double)
    expected, before = net(x), copy.deepcopy(net.state_dict())
    adapters = adapt(net, reflections=4)
    assert_close(net(x), expected)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["0.u", "2.u"]
    trained(net, x)
    assert not torch.allclose(net(x), expected)
    adapters.undo()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in before.items())
    assert all(p.requires_grad for p in net.parameters())


def test_gradients_at_the_start_are_no_zeros():
    net = model()
    adapt(net, reflections=2)
    net(torch.randn(5, 6, dtype=torch.double)).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float, 1e-5)])
def test_merging_is_exact(dtype, tolerance):
    net, x = model(dtype), torch.randn(5, 6, dtype=dtype)
    adapters = adapt(net, reflections=4)
    expected = trained(net, x)(x)
    adapters.merge()
    assert [type(module) for module in net] == [nn.Linear, nn.ReLU, nn.Linear]
    assert_close(net(x), expected, rtol=0, atol=tolerance)


def test_conv1d_of_gpt2(transformer):
    net, run = transformer("gpt2")
    expected = run()
    adapters = adapt(net, "*.c_*", reflections=2)
    assert len(adapters.changes) == 8
    assert_close(run(), expected, rtol=1e-4, atol=1e-5)
    for change in adapters.changes:
        nn.init.normal_(change.module.u)
    changed = run()
    assert not torch.allclose(changed, expected, atol=1e-3)
    adapters.merge()
    assert_close(run(), changed, rtol=1e-4, atol=1e-5)


def test_a_dry_run_freezes_nothing_and_counts():
    net = model()
    planned = adapt(net, "0", reflections=2, dry_run=True)
    assert all(p.requires_grad for p in net.parameters())
    (before,), (after,) = [change.before for change in planned.changes], [change.after for change in planned.changes]
    assert after.parameters - before.parameters == 12
    assert after.bytes - before.bytes == 12 * 8
    assert after.multiply_adds - before.multiply_adds == 24
    planned.undo()
    assert planned.apply() is planned
    assert isinstance(net[0], HanAdapter)


def test_a_name_that_is_not_there_freezes_nothing():
    net = model()
    planned = adapt(net, "0", reflections=2, dry_run=True)
    with pytest.raises(SurgeryError, match="nowhere"):
        planned.apply("nowhere")
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("count", [3, 0, 1.5, True])
def test_reflections_must_be_even(count):
    with pytest.raises(ValueError, match="reflections must be"):
        adapt(model(), reflections=count)


def test_what_cannot_be_adapted_says_why():
    with pytest.raises(SurgeryError, match="it is the model itself: use HanAdapter"):
        adapt(nn.Linear(2, 2))
    net = model()
    adapters = adapt(net, "0")
    net[0] = nn.Linear(6, 9)
    with pytest.raises(SurgeryError, match="0 is no longer what this surgery put there"):
        adapters.merge()


def test_adapters_keep_no_copy_of_weights_and_merge_keeps_what_was_merged():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    adapters = adapt(model, reflections=2)
    assert all(not isinstance(getattr(module, key), nn.Parameter) for module, key, _ in adapters._kept)
    model[0].u.data.normal_()
    mean = model[1].running_mean.copy_(torch.ones(8)).clone()
    expected = model.eval()(torch.ones(2, 8))
    adapters.merge()
    assert torch.equal(model[1].running_mean, mean)
    torch.testing.assert_close(model(torch.ones(2, 8)), expected)
    assert all(p.requires_grad for p in model.parameters())
