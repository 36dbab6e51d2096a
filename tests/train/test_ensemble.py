import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanLayer, HanNet, HanStack, Householder
from hannet.layers.activations import Abs, GroupSort, MaxMin
from hannet.layers.affine import UnitLinear
from hannet.train.backprop import build_backprop
from hannet.train.ensemble import Ensemble
from hannet.train.losses import loss as loss_of

NETWORKS = {
    "HanNet": lambda: HanNet(3, 2, width=8, depth=5),
    "HanNet with dense ends": lambda: HanNet(3, 2, width=8, depth=5, dense_ends=True),
    "wide HanNet": lambda: HanNet(3, 2, width=70, depth=30),
    "FCNet": lambda: FCNet(3, 2, width=8, depth=3),
    "FCNet with ABS": lambda: FCNet(3, 2, width=8, depth=3, activation="abs"),
    "narrowing": lambda: nn.Sequential(nn.Linear(3, 9), Abs(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2)),
    "reflections": lambda: nn.Sequential(nn.Linear(3, 8), HanStack(8, 2, reflections=3), nn.Linear(8, 2)),
    "stack without bias": lambda: nn.Sequential(nn.Linear(3, 8), HanStack(8, 2, bias=False), nn.Linear(8, 2)),
    "linear without bias": lambda: nn.Sequential(nn.Linear(3, 8, bias=False), nn.Tanh(), nn.Linear(8, 2)),
    "activation first": lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
    "activation last": lambda: nn.Sequential(nn.Linear(3, 2), Abs(), nn.ReLU()),
    "reflections alone": lambda: nn.Sequential(nn.Linear(3, 8), Householder(8, bias=True), MaxMin(), nn.Linear(8, 2)),
    "single layers": lambda: nn.Sequential(nn.Linear(3, 8), HanLayer(8), HanLayer(8, reflections=2), nn.Linear(8, 2)),
    "groups of three": lambda: nn.Sequential(nn.Linear(3, 9), GroupSort(3), Householder(9, bias=True), nn.Linear(9, 2)),
    "FCNet with GroupSort": lambda: FCNet(3, 2, width=10, depth=3, activation="groupsort5"),
    "large groups": lambda: nn.Sequential(nn.Linear(3, 300), GroupSort(300), nn.Linear(300, 2)),
    "other modules": lambda: nn.Sequential(nn.Linear(3, 8), GroupSort(2), nn.Softplus(), nn.Linear(8, 2)),
    "with buffers": lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8).eval(), nn.Linear(8, 2)),
    "one module twice": lambda: nn.Sequential(*[nn.Linear(3, 3), Abs()] * 2, nn.Linear(3, 2)),
    "lipschitz HanNet": lambda: HanNet(3, 2, width=8, depth=4, lipschitz=True),
    "lipschitz HanNet of reflections": lambda: HanNet(3, 2, width=8, depth=4, lipschitz=True, reflections=3),
    "HanNet of reflections": lambda: HanNet(3, 2, width=8, depth=4, reflections=2),
    "padding on both sides": lambda: nn.Sequential(nn.ZeroPad1d((2, 3)), HanStack(8, 2), UnitLinear(8, 2)),
    "padding inside": lambda: nn.Sequential(nn.Linear(3, 5), nn.ZeroPad1d((0, 3)), MaxMin(), nn.Linear(8, 2)),
    "cropping": lambda: nn.Sequential(nn.Linear(3, 8), nn.ZeroPad1d((-1, -2)), nn.Linear(5, 2)),
    "unit rows first": lambda: nn.Sequential(UnitLinear(3, 8), Abs(), UnitLinear(8, 2)),
    "unit rows without bias": lambda: nn.Sequential(UnitLinear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 2)),
    "a row of zeros": lambda: zeroed(nn.Sequential(nn.Linear(3, 8), UnitLinear(8, 2))),
    "with a hook": lambda: doubling(nn.Sequential(nn.Linear(3, 2))),
    "parametrised": lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)), nn.Linear(3, 2)),
}


def zeroed(network):
    with torch.no_grad():
        network[1].weight[0] = 0
    return network


def doubling(network):
    network[0].register_forward_hook(lambda *arguments: 2 * arguments[-1])
    return network


def gradients_of(members, x, y):
    """What the members get wrong, and the gradients of its mean square."""
    outputs, gradients = members.gradients(x, lambda outputs: loss_of("mse").slope(outputs, y))
    return outputs - y, gradients


def alone(network, x, y):
    """Errors of one network, and the gradients of their mean square by autograd."""
    errors = network(x) - y
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(errors.square().mean(), parameters)
    return errors.detach(), dict(zip(names, gradients, strict=True))


@pytest.fixture(params=NETWORKS)
def networks(request):
    return [NETWORKS[request.param]().double() for _ in range(3)]


def test_errors_and_gradients_are_those_of_each_network_alone(networks):
    members = Ensemble(networks)
    for rows in (5, 5, 4):  # again, and another size, because memory is used again
        x, y = torch.randn(3, rows, 3, dtype=torch.double), torch.randn(3, rows, 2, dtype=torch.double)
        kept = x.clone()
        errors, gradients = gradients_of(members, x, y)
        assert torch.equal(x, kept)
        assert set(gradients) == {name for name, _ in networks[0].named_parameters()}
        for index, network in enumerate(networks):
            error, expected = alone(network, x[index], y[index])
            assert_close(errors[index], error)
            for name, gradient in expected.items():
                assert_close(gradients[name][index], gradient)


def test_predicts_what_each_network_predicts_between_the_steps_of_a_training(networks):
    members = Ensemble(networks)
    x, y = torch.randn(3, 5, 3, dtype=torch.double), torch.randn(3, 5, 2, dtype=torch.double)
    points = torch.randn(7, 3, dtype=torch.double)
    kept = points.clone()
    _, gradients = gradients_of(members, x, y)
    expected = {name: gradient.clone() for name, gradient in gradients.items()}
    assert_close(members.predict(points), torch.stack([network(points) for network in networks]))
    assert torch.equal(points, kept)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_a_nan_member_leaves_the_others_alone(networks):
    x, y = torch.randn(3, 5, 3, dtype=torch.double), torch.randn(3, 5, 2, dtype=torch.double)
    errors, gradients = gradients_of(Ensemble(networks), x, y)
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter.fill_(torch.nan)
    spoilt, others = gradients_of(Ensemble(networks), x, y)
    assert torch.equal(spoilt[[0, 2]], errors[[0, 2]])
    assert spoilt[1].isnan().all()
    assert all(torch.equal(others[name][[0, 2]], gradients[name][[0, 2]]) for name in gradients)


def test_zero_counts_as_positive_for_abs():
    network = nn.Sequential(nn.Linear(3, 2), Abs(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    x, y = torch.randn(2, 5, 3).unbind(0)[0][None], torch.randn(1, 5, 2)
    _, gradients = gradients_of(Ensemble([network]), x, y)
    for name, gradient in alone(network, x[0], y[0])[1].items():
        assert_close(gradients[name][0], gradient)


def test_networks_keep_their_parameters_until_they_are_written_back():
    networks = [HanNet(3, 2, width=8, depth=4) for _ in range(2)]
    before = copy.deepcopy(networks)
    members = Ensemble(networks)
    for parameter in members.parameters.values():
        parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(networks[1].parameters(), before[1].parameters(), strict=True))
    members.write_back()
    for network, old in zip(networks, before, strict=True):
        assert all(torch.equal(a, b + 1) for a, b in zip(network.parameters(), old.parameters(), strict=True))


def test_features_in_another_dimension_go_through_autograd():
    assert build_backprop(HanStack(4, 2), "", dict(HanStack(4, 2).named_parameters())) is not None
    assert build_backprop(HanStack(4, 2, dim=0), "", dict(HanStack(4, 2).named_parameters())) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_through_autograd(dtype):
    networks = [nn.Sequential(HanStack(6, 2)).to(dtype) for _ in range(2)]
    x, y = torch.randn(2, 5, 6, dtype=dtype), torch.randn(2, 5, 6, dtype=dtype)
    _, gradients = gradients_of(Ensemble(networks), x, y)
    outputs = networks[1](x[1])
    slope = loss_of("mse").slope(outputs.detach()[None], y[1:])[0]
    expected = torch.autograd.grad(outputs, list(networks[1].parameters()), slope)
    for gradient, (name, _) in zip(expected, networks[1].named_parameters(), strict=True):
        assert_close(gradients[name][1], gradient)


@pytest.mark.parametrize("x", [torch.ones(1, 5, 7), torch.ones(1, 5, 6, dtype=torch.float64)])
def test_inputs_that_do_not_fit_a_stack_are_named(x):
    with pytest.raises(ValueError, match=r"x must be \(..., 6\) in torch.float32, got "):
        gradients_of(Ensemble([nn.Sequential(HanStack(6, 2))]), x, x)


def test_a_retired_member_keeps_its_parameters_and_predicts_nan():
    networks = [HanNet(3, 2, width=8, depth=4) for _ in range(3)]
    before = copy.deepcopy(networks)
    members = Ensemble(networks)
    members.drop_diverged(torch.tensor([0, 2]))
    for parameter in members.parameters.values():
        parameter.add_(1)
    members.write_back()
    for network, old, more in zip(networks, before, (1, 0, 1), strict=True):
        assert all(torch.equal(a, b + more) for a, b in zip(network.parameters(), old.parameters(), strict=True))
    x = torch.randn(4, 3)
    prediction = members.predict(x)
    assert prediction[1].isnan().all()
    assert_close(prediction[[0, 2]], torch.stack([networks[0](x), networks[2](x)]))
    members.drop_diverged(torch.tensor([1]))
    assert members.alive.tolist() == [2]
    assert members.predict(x)[:2].isnan().all()


def test_each_member_predicts_rows_of_its_own():
    networks = [HanNet(3, 2, width=8, depth=4) for _ in range(3)]
    members, x = Ensemble(networks), torch.randn(3, 5, 3)
    expected = torch.stack([network(rows) for network, rows in zip(networks, x, strict=True)])
    assert_close(members.predict(x), expected)
    members.drop_diverged(torch.tensor([0, 2]))
    assert_close(members.predict(x)[[0, 2]], expected[[0, 2]])
    assert members.predict(x)[1].isnan().all()


def test_members_compute_in_another_dtype_when_asked():
    networks = [HanNet(3, 2, width=8, depth=4) for _ in range(2)]
    x = torch.randn(5, 3, dtype=torch.double)
    outputs = Ensemble(networks, torch.float64).predict(x)
    expected = torch.stack([copy.deepcopy(network).double()(x) for network in networks])
    assert_close(outputs, expected)
    assert networks[0].layers[0].weight.dtype == torch.float32


def test_input_gradients_are_those_of_each_network_alone(networks):
    members = Ensemble(networks)
    x, y = torch.randn(3, 5, 3, dtype=torch.double), torch.randn(3, 5, 2, dtype=torch.double)
    _, before = gradients_of(members, x, y)
    kept, expected = x.clone(), {name: gradient.clone() for name, gradient in before.items()}
    for rows in (5, 4):
        part, targets = x[:, :rows], y[:, :rows]
        gradient = members.input_gradient(part, lambda outputs, y=targets: loss_of("mse").slope(outputs, y))
        for index, network in enumerate(networks):
            leaf = part[index].clone().requires_grad_()
            (alone,) = torch.autograd.grad((network(leaf) - targets[index]).square().mean(), leaf)
            assert_close(gradient[index], alone)
    assert torch.equal(x, kept)
    assert all(torch.equal(before[name], expected[name]) for name in before)
    assert not any(p.requires_grad or p.grad is not None for p in members.parameters.values())


def test_outputs_are_those_of_the_living(networks):
    members, x = Ensemble(networks), torch.randn(3, 5, 3, dtype=torch.double)
    expected = torch.stack([network(rows) for network, rows in zip(networks, x, strict=True)])
    assert_close(members.outputs(x), expected)
    assert not members.outputs(x).requires_grad
    members.drop_diverged(torch.tensor([0, 2]))
    assert_close(members.outputs(x[[0, 2]]), expected[[0, 2]])
    gradient = members.input_gradient(x[[0, 2]], torch.ones_like)
    leaf = x[2].clone().requires_grad_()
    assert_close(gradient[1], torch.autograd.grad(networks[2](leaf).sum(), leaf)[0])
