"""Lipschitz bounds of modules and of their chains."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from hannet import FCNet, HanLayer, HanNet, Householder
from hannet.certify import CertificateError, lipschitz_bound, spectral_bound
from hannet.layers.activations import GroupSort
from hannet.layers.affine import Standardise, UnitLinear


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.zeros(3, 2), 0.0),
        (torch.empty(0, 3), 0.0),
        (torch.eye(4), 1.0),
        (torch.ones(1, 9), 3.0),
        (torch.ones(9, 1), 3.0),
        (torch.tensor([[1e-200, 0.0], [0.0, 1e-202]], dtype=torch.double), 1e-200),
        (1e308 * torch.ones(2, 2).double(), math.inf),
        (torch.diag(torch.tensor([1e300, 1e-300], dtype=torch.double)), 1e300),
        (nn.init.orthogonal_(torch.empty(40, 20)), 1.0),
    ],
)
def test_spectral_bounds_that_are_known(weight, expected):
    bound = spectral_bound(weight)
    assert bound == pytest.approx(expected, rel=1e-6)
    assert bound >= expected * (1 - 1e-6)


@pytest.mark.parametrize(
    "weight", [torch.tensor([[math.nan]]), torch.tensor([[math.inf, 1.0]]), torch.ones(3), torch.tensor([[3j]])]
)
def test_what_is_no_finite_matrix_has_no_norm(weight):
    with pytest.raises(CertificateError, match="weight must be a finite matrix"):
        spectral_bound(weight)


POOLS = [
    (nn.AvgPool1d(3, 1, 1), (2, 7)),
    (nn.AvgPool1d(4, 3), (2, 10)),
    (nn.AvgPool2d(2), (1, 4, 4)),
    (nn.AvgPool2d((2, 3), (1, 2), (1, 1)), (2, 4, 5)),
    (nn.AvgPool2d([2, 3], 1), (2, 4, 5)),
    (nn.AvgPool2d((3,), 2), (2, 5, 5)),
    (nn.AvgPool3d(2, 1, 1), (1, 3, 3, 3)),
]


@pytest.mark.parametrize(("pool", "shape"), POOLS)
def test_pools_stretch_no_more_than_told(pool, shape):
    size = math.prod(shape)
    outputs = pool(torch.eye(size).double().view(size, *shape)).flatten(1)
    norm = torch.linalg.matrix_norm(outputs, 2).item()
    assert norm <= lipschitz_bound(pool) <= 1.8 * norm


LIPSCHITZ = {
    "HanNet": (lambda: HanNet(3, 4, width=8, depth=5), None),
    "lipschitz HanNet": (lambda: HanNet(3, 4, width=8, depth=5, lipschitz=True, reflections=2), 2.0),
    "FCNet": (lambda: FCNet(3, 4, width=8, depth=2, activation="maxmin"), None),
    "one class": (lambda: HanNet(3, 1, width=8, depth=5, lipschitz=True), 1.0),
    "all kinds": (
        lambda: nn.Sequential(
            Standardise([0.0, 1, 2], [0.5, 1, 2]),
            nn.Flatten(),
            nn.Identity(),
            nn.Dropout(0.5),
            UnitLinear(3, 6),
            GroupSort(3),
            nn.BatchNorm1d(6),
            HanLayer(6),
            Householder(6),
            nn.ReLU(),
            nn.Sequential(nn.Linear(6, 4)),
        ),
        None,
    ),
}


def slopes(net, x):
    """The spectral norms of the Jacobians at x."""
    return torch.linalg.matrix_norm(torch.func.vmap(torch.func.jacrev(net))(x), 2)


@pytest.mark.parametrize("name", LIPSCHITZ)
def test_no_slope_is_above_the_bound(name):
    build, most = LIPSCHITZ[name]
    net = build().double().eval()
    bound = lipschitz_bound(net)
    x = torch.randn(200, 3).double() * torch.logspace(-2, 2, 200)[:, None]
    largest = slopes(lambda row: net(row[None])[0], x).max()
    a, b = torch.randn(2, 500, 3).double()
    quotients = (net(a) - net(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert max(largest.item(), quotients.max().item()) <= bound
    assert most is None or bound <= most * (1 + 1e-6)
    assert lipschitz_bound(copy.deepcopy(net).float()) == pytest.approx(bound, rel=1e-5)


def test_a_bound_of_linear_maps_is_their_norm():
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    bound = lipschitz_bound(net)
    assert bound == pytest.approx(
        math.prod(torch.linalg.matrix_norm(layer.weight, 2).item() for layer in net), rel=1e-5
    )
    assert lipschitz_bound(nn.Sequential(net, net)) == pytest.approx(bound**2, rel=1e-5)


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def test_a_parametrised_module_is_named_by_what_it_is_and_certified_in_eval_mode():
    net = HanNet(3, 2, 8, 4).eval()
    plain = lipschitz_bound(net)
    parametrize.register_parametrization(net.layers[0], "weight", Half())  # new: torch leaves the list in training mode
    assert lipschitz_bound(net) == pytest.approx(plain / 2)
    with pytest.raises(CertificateError, match=r"layers.0 \(Linear with parametrized weight\) acts differently"):
        lipschitz_bound(net.train())
    conv = nn.Conv1d(3, 3, 1).eval()
    parametrize.register_parametrization(conv, "weight", Half())
    with pytest.raises(CertificateError, match=r"the model \(Conv1d with parametrized weight\) has no known"):
        lipschitz_bound(conv)


def test_parametrised_modules_count_as_what_they_compute():
    plain, other = nn.Linear(3, 3).eval(), nn.Linear(3, 3).eval()
    other.load_state_dict(plain.state_dict())
    parametrize.register_parametrization(other, "weight", Half())
    other.eval()
    assert lipschitz_bound(other) == pytest.approx(lipschitz_bound(plain) / 2)
