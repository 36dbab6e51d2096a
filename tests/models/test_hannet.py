import copy
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanNet, HanStack
from hannet.certify import lipschitz_bound
from hannet.layers.activations import Abs
from hannet.layers.affine import UnitLinear
from hannet.models import registry

MODELS = {
    "HanNet": lambda: HanNet(3, 2, width=8, depth=5),
    "HanNet with dense ends": lambda: HanNet(3, 2, width=8, depth=5, dense_ends=True),
    "lipschitz HanNet": lambda: HanNet(3, 2, width=8, depth=5, lipschitz=True),
    "lipschitz HanNet of reflections": lambda: HanNet(3, 2, width=8, depth=5, lipschitz=True, reflections=3),
    "HanNet of reflections": lambda: HanNet(3, 2, width=8, depth=5, reflections=2),
    "as wide as its input": lambda: HanNet(3, 2, width=3, depth=1, lipschitz=True),
    "FCNet": lambda: FCNet(3, 2, width=8, depth=3),
    "FCNet with MaxMin": lambda: FCNet(3, 2, width=8, depth=3, activation="maxmin"),
    "FCNet with GroupSort": lambda: FCNet(3, 2, width=10, depth=3, activation="groupsort5"),
    "FCNet with ABS": lambda: FCNet(3, 2, width=8, depth=3, activation="abs"),
}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: HanNet(13, 1, width=200, depth=20), 10_601),
        (lambda: HanNet(2, 2, width=30, depth=20, dense_ends=True), 3_032),
        (lambda: HanNet(2, 2, width=10, depth=10, dense_ends=True), 412),
        (lambda: HanNet(2, 2, width=20, depth=8), 382),
        (lambda: FCNet(2, 2, width=100, depth=6), 51_002),
        (lambda: HanNet(784, 10, width=784, depth=20, lipschitz=True), 20 * 2 * 784 + 7_850),
        (lambda: HanNet(784, 10, width=784, depth=20, lipschitz=True, reflections=3), 20 * 4 * 784 + 7_850),
    ],
)
def test_parameter_counts_of_the_paper(model, expected):
    assert sum(p.numel() for p in model().parameters()) == expected


@pytest.mark.parametrize("dense_ends", [False, True])
def test_hannet_is_dense_abs_and_han_layers(dense_ends):
    net = HanNet(3, 2, width=8, depth=6, dense_ends=dense_ends).double()
    y = x = torch.randn(7, 3, dtype=torch.double)
    folds = 0
    for module in net.layers:
        for part in module if isinstance(module, HanStack) else [module]:
            y = part(y)
            folds += not isinstance(part, nn.Linear)
    assert_close(net(x), y)
    assert folds == 6


@pytest.mark.parametrize("reflections", [1, 2])
def test_a_lipschitz_hannet_is_an_isometry_and_unit_rows(reflections):
    net = HanNet(3, 4, width=8, depth=6, lipschitz=True, reflections=reflections).double()
    x, y = torch.randn(2, 50, 3, dtype=torch.double)
    body, last = net.layers[:-1], net.layers[-1]
    assert len(net.layers[1]) == 6
    assert isinstance(last, UnitLinear)
    assert_close(last.weight.norm(dim=1), torch.ones(4, dtype=torch.double))
    assert_close(nn.functional.pad(x, (0, 5)), net.layers[0](x))
    jacobians = torch.func.vmap(torch.func.jacrev(body))(x)
    assert_close(jacobians.mT @ jacobians, torch.eye(3, dtype=torch.double).expand(50, 3, 3))
    assert ((net(x) - net(y)).abs() <= (x - y).norm(dim=1, keepdim=True) * (1 + 1e-12)).all()
    with torch.no_grad():
        last.weight *= torch.rand(4, 1) * 100
    assert lipschitz_bound(net) <= 2 * (1 + 1e-6)


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("abs", Abs)])
def test_fcnet_alternates_dense_layers_and_activations(activation, kind):
    layers = FCNet(3, 2, width=8, depth=3, activation=activation).layers
    assert [type(layer) for layer in layers] == [nn.Linear, kind] * 3 + [nn.Linear]


def test_initial_weights_are_the_authors():
    for linear in HanNet(3, 2, width=8, depth=5, dense_ends=True).layers:
        if isinstance(linear, nn.Linear):
            W = linear.weight if linear.weight.shape[0] <= linear.weight.shape[1] else linear.weight.T
            assert_close(W @ W.T, torch.eye(len(W)), rtol=0, atol=1e-5)
    weight = FCNet(2, 2, width=500, depth=2).layers[2].weight
    assert weight.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lead", [(), (0,), (5,), (2, 4)])
def test_any_leading_dimensions(name, lead):
    net = MODELS[name]()
    y = net(torch.randn(*lead, 3))
    assert y.shape == (*lead, 2)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(5, 4), (5, 2), (3, 5), ()])
def test_inputs_of_another_width_are_named(name, shape):
    with pytest.raises(ValueError, match=re.escape(f"x must be (..., 3), in_features last, got {shape}")):
        MODELS[name]()(torch.ones(shape))


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_models_are_equal(name, tmp_path):
    net, x = MODELS[name](), torch.randn(5, 3)
    net.save_pretrained(tmp_path)
    loaded = type(net).from_pretrained(tmp_path)
    assert torch.equal(loaded(x), net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))
    assert repr(loaded) == repr(net)
    assert torch.equal(registry.load(tmp_path)(x), net(x))


@pytest.mark.parametrize("model", [HanNet, FCNet])
@pytest.mark.parametrize("name", ["in_features", "out_features", "width", "depth"])
@pytest.mark.parametrize("value", [0, -3, 1.5])
def test_sizes_are_positive_integers(model, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value}"):
        model(**{"in_features": 3, "out_features": 2, name: value})


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: HanNet(3, 2, depth=1), "depth must be at least 2, got 1"),
        (lambda: HanNet(3, 2, lipschitz=True, dense_ends=True), "a lipschitz HanNet must have no dense_ends"),
        (lambda: HanNet(3, 2, width=2, lipschitz=True), r"a width of at least in_features \(3\), got 2"),
        (lambda: HanNet(3, 2, reflections=0), "reflections must be a positive integer, got 0"),
        (lambda: FCNet(3, 2, activation="maxmin", width=5)(torch.ones(1, 3)), "features must come in pairs"),
        (lambda: HanNet(3, 2, depth=3, dense_ends=True), "depth must be at least 4 with dense ends, got 3"),
        (
            lambda: FCNet(3, 2, activation="tanh"),
            "activation must be one of relu, abs, maxmin, groupsort5, groupsort20, got 'tanh'",
        ),
    ],
)
def test_bad_arguments_are_named(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
