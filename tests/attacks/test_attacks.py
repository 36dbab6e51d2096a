import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from hannet import HanNet
from hannet.attacks import CW, FGSM, PGD, attack, search
from hannet.data import images
from hannet.reporting.progress import ProgressEvent

pytest.importorskip("foolbox")


@pytest.fixture(params=[torch.float32, torch.float64])
def linear(request):
    """A linear classifier, points in the middle of a wide box, its answers, distances to its borders in l2 and linf."""
    model = nn.Linear(12, 4).to(request.param)
    x = 0.5 + 0.1 * torch.randn(50, 12, dtype=request.param)
    with torch.no_grad():
        logits = model(x).double()
        y = logits.argmax(1)
        apart = (model.weight[y, None] - model.weight).double()
        margins = logits.gather(1, y[:, None]) - logits
        margins[torch.arange(50), y] = math.inf
        distances = {
            "l2": (margins / apart.norm(dim=2).clamp(min=1e-9)).amin(1),
            "linf": (margins / apart.abs().sum(2).clamp(min=1e-9)).amin(1),
        }
    return model, x, y, distances


WIDE = (-10.0, 11.0)
METHODS = {
    "pgd l2": PGD("l2", 0.3),
    "pgd linf": PGD("linf", 0.1),
    "pgd margin": PGD("l2", 0.3, loss="margin"),
    "fgsm l2": FGSM("l2", 0.3),
    "fgsm linf": FGSM("linf", 0.1),
    "cw": CW(5, 200, 0.02),
}


@pytest.mark.parametrize("method", [PGD, FGSM])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_classifier_is_never_broken_below_the_exact_distance(linear, method, norm):
    model, x, y, distances = linear
    for eps in distances[norm].quantile(torch.tensor([0.2, 0.5, 0.8]).double()).tolist():
        found = attack(model, x, y, method(norm, eps), bounds=WIDE)
        assert not found.success[distances[norm] > eps * 1.0001].any()


@pytest.mark.parametrize("method", [PGD, FGSM])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_of_two_classes_both_break_exactly_what_can_be_broken(method, norm):
    model = nn.Linear(12, 2).double()
    x = 0.5 + 0.1 * torch.randn(200, 12).double()
    y = model(x).argmax(1)
    across = model.weight.detach().diff(dim=0)
    distance = model(x).detach().diff(dim=1).abs()[:, 0] / (across.norm() if norm == "l2" else across.abs().sum())
    eps = float(distance.median())
    found = attack(model, x, y, method(norm, eps), bounds=WIDE)
    near = 0.98 if method is PGD and norm == "l2" else 0.999  # its random start slides round the ball
    assert found.success[distance < eps * near].all()
    assert not found.success[distance > eps * 1.001].any()
    assert 0.4 < found.accuracy < 0.6
    assert found.norms[found.success].max() <= eps * 1.00001
    assert found.norms[~found.success].isinf().all()


@pytest.mark.slow
def test_cw_finds_the_nearest_point_of_the_border(linear):
    model, x, y, distances = linear
    found = attack(model, x, y, CW(20, 2000, 0.003), bounds=WIDE)
    assert found.success.all()
    ratio = found.norms / distances["l2"]
    assert ratio.min() > 0.999
    assert ratio.quantile(0.9) < 1.1


def test_cw_without_success_leaves_points_as_they_were(linear):
    model, x, y, _ = linear
    x, y = x[(close := linear[3]["l2"] > 0.01)], y[close]
    found = attack(model, x, y, CW(1, 20, 1e-6), bounds=WIDE)
    assert found.accuracy == 1
    assert torch.equal(found.x, x)
    assert found.norms.isinf().all()
    assert found.median_norm is None


@pytest.mark.parametrize("name", METHODS)
def test_what_is_found_is_as_told(linear, name):
    model, x, y, _ = linear
    method = METHODS[name]
    y = y.clone()
    y[::5] = (y[::5] + 1) % 4
    found = attack(model, x, y, method, bounds=WIDE)
    assert found.x.dtype == x.dtype
    assert found.norms.dtype == torch.float64
    assert found.success[::5].all()
    assert not found.norms[::5].any()
    assert found.clean_accuracy == 0.8
    assert found.accuracy == pytest.approx(1 - found.success.double().mean().item())
    assert found.accuracy < 0.8
    assert torch.equal(model(found.x).argmax(1) != y, found.success)
    assert torch.equal(found.x[~found.success], x[~found.success])
    norms = (found.x.double() - x.double()).norm(dim=1, p=math.inf if method.norm == "linf" else 2)
    assert torch.allclose(norms[found.success], found.norms[found.success], rtol=1e-12)
    assert norms.max() <= method.eps * 1.00001
    assert found.median_norm == pytest.approx(found.norms[found.success & (found.norms > 0)].quantile(0.5).item())


@pytest.mark.parametrize("name", METHODS)
def test_the_default_device_does_not_matter(linear, name):
    model, x, y, _ = linear
    radius = torch.full((len(x),), 0.01)
    plain = attack(model, x, y, METHODS[name], bounds=WIDE), search(model, x, y, radius, 100)
    with torch.device("meta"):  # as torch.set_default_device
        there = attack(model, x, y, METHODS[name], bounds=WIDE), search(model, x, y, radius, 100)
    for one, other in zip(plain, there, strict=True):
        assert torch.equal(one.x, other.x)


@pytest.mark.parametrize("name", METHODS)
def test_bounds_hold(name):
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(40, 1, 4, 4).round()
    found = attack(model, x, model(x).argmax(1), METHODS[name])
    assert found.x.shape == x.shape
    assert (found.x.min(), found.x.max()) == (0, 1)
    low = attack(model, 3 * x - 1, model(3 * x - 1).argmax(1), METHODS[name], bounds=(-1, 2))
    assert (low.x.min(), low.x.max()) == (-1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_alone_and_nothing_else_changes(name):
    model = nn.Sequential(HanNet(8, 3, 10, 4), nn.BatchNorm1d(3), nn.Dropout()).double()
    model[0].eval()
    model[0].layers[0].weight.requires_grad_(False)
    model[0].layers[0].bias.grad = torch.ones(10).double()
    x = torch.rand(30, 8).double()
    y = torch.arange(30) % 3
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    needs = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():
        found = attack(model, x, y, METHODS[name], seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    again = attack(model, x, y, METHODS[name], seed=3, batch=7)
    assert torch.equal(found.success, again.success)
    assert torch.allclose(found.x, again.x, rtol=0, atol=1e-9)
    if name == "pgd l2":  # in linf it ends in a corner wherever it starts
        other = attack(model, x, y, METHODS[name], seed=4)
        assert not torch.equal(found.x, other.x)
    assert modes == [module.training for module in model.modules()]
    assert needs == [parameter.requires_grad for parameter in model.parameters()]
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(model[0].layers[0].bias.grad, torch.ones(10).double())
    assert sum(parameter.grad is not None for parameter in model.parameters()) == 1


def test_the_model_is_left_as_it_was_after_a_fault_too():
    class Fails(nn.Linear):
        def forward(self, x):
            if x.requires_grad:
                raise ArithmeticError
            return super().forward(x)

    model, x = Fails(3, 2), torch.rand(5, 3)
    with pytest.raises(ArithmeticError):
        attack(model, x, model(x).argmax(1), PGD())
    assert model.training
    assert model.weight.requires_grad


def test_progress_counts_the_points_that_are_right_to_begin_with():
    model, x = nn.Linear(3, 2), torch.rand(10, 3)
    y = model(x).argmax(1)
    y[0] = 1 - y[0]
    events = []
    attack(model, x, y, FGSM(), batch=4, on_progress=events.append)
    assert events == [ProgressEvent("FGSM", done, 9, "points") for done in (4, 8, 9)]


@pytest.mark.parametrize("name", METHODS)
def test_a_gradient_of_zero_gives_numbers(name):
    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(0 * x)

    model, x = Flat(3, 2), torch.rand(10, 3)
    y = model(x).argmax(1)
    found = attack(model, x, y, METHODS[name])
    assert found.accuracy == 1
    assert torch.equal(found.x, x)


class Breaks(nn.Linear):
    """Logits that are not numbers where the first input is above 0.6."""

    def forward(self, x):
        return super().forward(x) + (0.6 - x[:, :1]).sqrt() * 0


@pytest.mark.parametrize("name", ["pgd l2", "pgd linf", "pgd margin", "cw"])
def test_logits_that_are_not_finite_count_as_broken(name):
    model = Breaks(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        model.bias.copy_(torch.tensor([3.0, 0.0]))
    x = torch.tensor([[0.55, 0.5], [0.65, 0.5], [0.05, 0.5]])
    found = attack(model, x, torch.zeros(3).long(), METHODS[name])
    assert found.success.tolist() == [True, True, name == "cw"]
    assert found.norms[1] == 0
    assert found.x.isfinite().all()
    assert found.x[0, 0] > 0.6


@pytest.mark.parametrize("place", [0, 1])
def test_logits_that_are_infinite_count_too(place):
    model, x = nn.Linear(2, 2), torch.rand(1, 2)
    with torch.no_grad():
        model.bias[place] = math.inf
    assert attack(model, x, torch.tensor([place]), PGD()).norms.tolist() == [0]


def faults():
    x, y = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    return {
        "no points": ((x[:0], y[:0]), "x must be .* not empty"),
        "whole numbers": ((x.long(), y), "x must be"),
        "a vector": ((x[:, 0], y), "x must be"),
        "nan": ((x.log().sqrt(), y), "x must be .* finite"),
        "beyond the bounds": ((x + 1, y), "x must be within 0 and 1, got 1"),
        "float64 for a float32 model": ((x.double(), y), "x is torch.float64 on cpu, but the model torch.float32"),
        "too few labels": ((x, y[:3]), r"y must be \(4,\), int64, got \(3,\)"),
        "labels of another type": ((x, y.float()), "y must be"),
        "a label too large": ((x, y + 1), "y must be from 0 to 1, got 1 to 2"),
        "a negative label": ((x, y - 1), "y must be from 0 to 1, got -1 to 0"),
    }


@pytest.mark.parametrize("fault", faults())
def test_arguments_that_do_not_fit_are_one_sentence(fault):
    arguments, message = faults()[fault]
    with pytest.raises(ValueError, match=message) as caught:
        attack(nn.Linear(3, 2), *arguments, PGD())
    assert "\n" not in str(caught.value)
    if "bounds" not in fault:
        with pytest.raises(ValueError, match=message):
            search(nn.Linear(3, 2), *arguments, torch.ones(4))


def test_a_model_without_logits_and_bounds_that_are_none_are_refused():
    x, y = torch.rand(4, 3), torch.zeros(4).long()
    for model in (nn.Linear(3, 1), nn.Flatten(0), nn.Unflatten(1, (3, 1))):
        with pytest.raises(ValueError, match="model must give logits"):
            attack(model, x, y, PGD())
    for bounds in ((1, 0), (0, math.nan), (0, 0)):
        with pytest.raises(ValueError, match="bounds must be"):
            attack(nn.Linear(3, 2), x, y, PGD(), bounds=bounds)
    with pytest.raises(ValueError, match="finite for CW"):
        attack(nn.Linear(3, 2), x, y, CW(), bounds=(-math.inf, math.inf))
    with pytest.raises(ValueError, match="batch must be"):
        attack(nn.Linear(3, 2), x, y, PGD(), batch=0)


@pytest.mark.parametrize("eps", [0, -1, math.nan, math.inf])
def test_sizes_that_are_none_are_refused(eps):
    for make in (lambda: PGD("l2", eps), lambda: FGSM("linf", eps), lambda: CW(eps), lambda: CW(1, 10, eps)):
        with pytest.raises(ValueError, match=f"must be above 0 and finite, got {eps}"):
            make()


def test_unknown_norms_and_no_steps_are_refused():
    with pytest.raises(ValueError, match='norm must be "l2" or "linf", got \'l1\''):
        PGD("l1")
    with pytest.raises(ValueError, match="loss must be"):
        PGD(loss="hinge")
    with pytest.raises(ValueError, match="steps must be"):
        PGD(steps=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_margin_is_not_fooled_by_large_logits_and_the_cross_entropy_is(norm):
    model, x = HanNet(6, 3, 16, 4), torch.rand(100, 6)
    y = model(x).argmax(1)
    eps = 0.2 if norm == "l2" else 0.1
    plain = attack(model, x, y, PGD(norm, eps, loss="margin"))
    with torch.no_grad():
        model.layers[-1].weight.mul_(1e4)
        model.layers[-1].bias.mul_(1e4)
    assert 0.2 < plain.accuracy < 0.8
    assert attack(model, x, y, PGD(norm, eps, loss="margin")).accuracy == pytest.approx(plain.accuracy, abs=0.02)
    assert attack(model, x, y, PGD(norm, eps)).accuracy > plain.accuracy + 0.05


@pytest.mark.slow
def test_search_breaks_a_linear_classifier_just_above_each_point_s_own_distance_and_never_below(linear):
    model, x, y, distances = linear
    factor = torch.tensor([0.9999, 1.001] * 25)
    radius = factor * distances["l2"]
    state = torch.get_rng_state()
    found = search(model, x, y, radius, 2000)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(found.success, factor > 1)
    assert (found.norms[found.success] <= radius.to(x)[found.success]).all()
    again = search(model, x, y, radius, 2000, batch=7)
    assert torch.allclose(found.x, again.x, rtol=0, atol=1e-5)


def test_search_takes_radii_of_zero_and_points_that_are_wrong():
    model, x = nn.Linear(3, 2), torch.rand(10, 3)
    y = model(x).argmax(1)
    y[0] = 1 - y[0]
    found = search(model, x, y, torch.zeros(10), 50)
    assert found.success.tolist() == [True] + [False] * 9
    for radius in (torch.ones(9), -torch.ones(10), torch.full((10,), math.inf), torch.full((10,), math.nan)):
        with pytest.raises(ValueError, match=r"radius must be \(10,\), finite and not negative"):
            search(model, x, y, radius)


@pytest.mark.slow
def test_search_finds_more_than_pgd_on_a_net_with_corners():
    model = HanNet(6, 3, 16, 8).double()
    x = torch.rand(100, 6).double()
    y = model(x).argmax(1)
    weak = attack(model, x, y, PGD("l2", 0.2), bounds=WIDE)
    strong = search(model, x, y, torch.full((100,), 0.2).double(), 1000)
    assert strong.success[weak.success].all()
    assert strong.accuracy <= weak.accuracy


@pytest.fixture(scope="module")
def digits():
    """A net that learned MNIST for a few seconds, and 300 test images."""
    import os

    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    torch.manual_seed(0)
    data = images.mnist("train")
    x, y = data.x[:10000].flatten(1).float() / 255, data.y[:10000]
    model = nn.Sequential(nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 10))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(4):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    test = images.mnist("test")
    return model, test.x[:300].flatten(1).float() / 255, test.y[:300]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "sizes"), [("l2", [0.2, 0.5, 1, 2]), ("linf", [0.01, 0.03, 0.1, 0.3])])
def test_on_mnist_more_room_breaks_more(digits, norm, sizes):
    accuracies = [attack(*digits, PGD(norm, eps)).accuracy for eps in sizes]
    clean = attack(*digits, PGD(norm, 0.01)).clean_accuracy
    assert clean > 0.85
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > clean - 0.2
    assert accuracies[-1] < 0.1
    assert attack(*digits, FGSM(norm, sizes[2])).accuracy >= accuracies[2]


@pytest.mark.slow
def test_on_mnist_cw_finds_nearer_points_with_a_larger_c(digits):
    broken = [attack(*digits, CW(c, 100, 0.05)).success.double().mean() for c in (0.01, 1, 5)]
    assert broken == sorted(broken)
    assert broken[-1] > 0.95


@pytest.mark.slow
def test_import_is_light():
    code = "import sys, hannet.attacks; print(*[name for name in ('foolbox', 'eagerpy', 'git') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
