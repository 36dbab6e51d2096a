"""What hannet.certify claims, against searches for what it rules out, and against odd modules."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from hannet import HanLayer, HanNet, HanStack
from hannet.attacks import search
from hannet.certify import CertificateError, certified_accuracy, certified_radius, lipschitz_bound
from hannet.layers.activations import Abs
from hannet.layers.affine import Standardise

pytest.importorskip("foolbox")
DTYPES = (torch.float32, torch.float64)


class Louder(nn.Linear):
    def forward(self, x):
        return 100 * super().forward(x)


def changed(net, act):
    act(net)
    return net


def disguised():
    layer = Louder(3, 3)
    layer.parametrizations = nn.ModuleDict({"scale": nn.Identity()})
    layer.scale = torch.ones(1)
    return layer


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Tanh()), r"1 \(Tanh\) has no known Lipschitz bound"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 3))), r"0\.0 \(Conv2d\) has no"),
        (nn.Tanh(), r"the model \(Tanh\) has no"),
        (nn.Sequential(), r"the model \(Sequential\) has no"),
        (Louder(3, 3), r"the model \(Louder\) has no"),
        (disguised(), r"\(Louder\) has no"),
        (type("Mine", (HanNet,), {})(3, 2), r"the model \(Mine\) has no"),
        (nn.Flatten(0), "no known Lipschitz bound"),
        (nn.Dropout(), "training: call model.eval"),
        (nn.BatchNorm1d(3), "training: call model.eval"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "no known Lipschitz bound"),
        (parametrizations.spectral_norm(nn.Linear(3, 3)), "training: call model.eval"),
        (changed(parametrizations.spectral_norm(nn.Linear(3, 3)), lambda n: setattr(n, "training", False)), "training"),
        (changed(nn.BatchNorm1d(3).eval(), lambda n: n.running_var.fill_(-1)), "variance that is negative"),
        (changed(nn.BatchNorm1d(3, eps=0).eval(), lambda n: n.running_var.zero_()), "variance that is .* vanishes"),
        (changed(nn.Linear(3, 3), lambda n: n.weight.data.fill_(math.nan)), "numbers that are not finite"),
        (changed(HanLayer(3), lambda n: n.u.data.fill_(math.inf)), "numbers that are not finite"),
        (nn.Linear(3, 3, dtype=torch.complex64), r"the model \(Linear\) holds numbers that are not real"),
        (changed(nn.Linear(3, 3), lambda n: n.register_forward_hook(lambda *_: None)), "hooks"),
        (changed(nn.Linear(3, 3), lambda n: n.register_forward_pre_hook(lambda *_: None)), "hooks"),
        (
            changed(HanNet(3, 2), lambda n: n.layers.register_forward_hook(lambda *_: None)),
            r"layers \(Sequential\) has h",
        ),
        (changed(HanNet(3, 2), lambda n: setattr(n, "layers", Louder(3, 2))), r"layers \(Louder\) has no"),
        (changed(HanNet(3, 2), lambda n: setattr(n.layers[2], "forward", torch.exp)), r"layers\.2 \(HanStack\) has"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "training"),
        (nn.AvgPool1d(2, ceil_mode=True), "ceil_mode"),
        (nn.AvgPool1d(2, padding=1, count_include_pad=False), "count_include_pad"),
        (nn.AvgPool2d(2, divisor_override=1), "divisor_override"),
    ],
)
def test_what_has_no_bound_is_named(net, sentence):
    with pytest.raises(CertificateError, match=sentence):
        lipschitz_bound(net)
    with pytest.raises(CertificateError, match=sentence):
        certified_radius(net, torch.ones(2, 3))


def test_hooks_of_all_modules_are_seen():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(CertificateError, match="hooks"):
            lipschitz_bound(nn.Linear(3, 3))
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.ones(0, 3), r"at least one row, got \(0, 3\)"),
        (torch.ones(3), r"at least one row, got \(3,\)"),
        (torch.ones(2, 3).double(), "must both be float32 or float64"),
        (torch.ones(2, 3).half(), "must both be float32 or float64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, sentence):
    with pytest.raises(CertificateError, match=sentence):
        certified_radius(nn.Linear(3, 2), x)


def test_buffers_of_another_dtype_are_named():
    net = nn.Sequential(Standardise(0.0, 1.0).double(), nn.Linear(3, 2))
    with pytest.raises(CertificateError, match="must both be"):
        certified_radius(net, torch.ones(2, 3))


@pytest.mark.parametrize("net", [nn.Linear(3, 1), nn.Sequential(nn.Linear(3, 3), nn.AvgPool1d(2))])
def test_there_must_be_classes(net):
    with pytest.raises(CertificateError, match="two classes or more"):
        certified_radius(net, torch.ones(2, 3))


def test_arithmetic_that_has_no_bound_is_refused():
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(CertificateError, match="float32_matmul_precision"):
            certified_radius(nn.Linear(3, 2), torch.ones(2, 3))
        certified_radius(nn.Linear(3, 2).double(), torch.ones(2, 3).double())
    finally:
        torch.set_float32_matmul_precision("highest")
    if torch.set_flush_denormal(True):
        try:
            with pytest.raises(CertificateError, match="flush_denormal"):
                certified_radius(nn.Linear(3, 2), torch.ones(2, 3))
        finally:
            torch.set_flush_denormal(False)


def test_the_distance_of_a_linear_classifier_is_found():
    net, x = nn.Linear(4, 3).double(), torch.randn(50, 4).double()
    logits = net(x).detach()
    rows, best = net.weight.detach(), logits.argmax(1)
    gaps = logits.gather(1, best[:, None]) - logits
    expected = (
        (gaps / (rows[best, None] - rows).norm(dim=2).clamp_min(1e-300)).scatter(1, best[:, None], math.inf).amin(1)
    )
    radius = certified_radius(net, x)
    assert (radius <= expected).all()
    assert torch.allclose(radius, expected, rtol=1e-6)
    assert (certified_radius(copy.deepcopy(net).float(), x.float()) <= expected).all()


def test_radii_without_a_linear_end_are_the_margins_over_the_bound():
    net, x = nn.Sequential(HanLayer(4)).double(), torch.randn(20, 4).double()
    first, second = net(x).detach().topk(2).values.unbind(1)
    assert torch.allclose(certified_radius(net, x), (first - second) / math.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-50, 1e-170, 1e30, 1e50])
def test_radii_without_a_linear_end_are_not_above_the_distance(scale):
    net, x = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU()).double(), torch.tensor([[3.0, 1.0]]).double()
    net[0].weight.data = scale * torch.eye(2).double()
    exact = math.sqrt(2)  # to (2, 2)
    assert exact * (1 - 1e-6) < certified_radius(net, x).item() <= exact


def test_batches_do_not_matter_and_nothing_is_changed():
    net = nn.Sequential(nn.ReLU(inplace=True), HanNet(3, 4, width=8, depth=4))
    x = torch.randn(30, 3, requires_grad=True)
    before, state = x.clone(), copy.deepcopy(net.state_dict())
    radius = certified_radius(net, x, batch=7)
    assert torch.allclose(radius, certified_radius(net, x), rtol=1e-3, atol=1e-6)
    assert radius.dtype == torch.float64
    assert not radius.requires_grad
    assert torch.equal(x, before)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_points_that_are_not_finite_or_too_large_have_no_radius():
    net, x = nn.Linear(3, 2), torch.randn(5, 3)
    x[0, 0], x[1, 1], x[2] = math.nan, math.inf, 3e38
    radius = certified_radius(net, x)
    assert (radius[:3] == 0).all()
    assert radius.isfinite().all()


@pytest.mark.parametrize("scale", [1e-320, 1e-170, 1e-60, 1e60, 1e170, 1e300])
def test_scales_at_which_squares_overflow_or_vanish(scale):
    net, x = nn.Linear(3, 2).double(), torch.randn(40, 3).double()
    expected = certified_radius(net, x)
    for p in net.parameters():
        p.data *= scale
    radius = certified_radius(net, x)
    assert (radius <= expected * (1 + 1e-6)).all()
    assert scale == 1e-320 or torch.allclose(radius, expected, rtol=1e-6)


def test_products_that_overflow_or_vanish_leave_no_false_radius():
    x = torch.randn(5, 3).double()
    for scales in ([1e200, 1e200], [1e-200, 1e-200, 1e200, 1e200], [1e-170, 1e-170, 1e300], [0, 1e300, 1e300]):
        net = nn.Sequential(*(nn.Linear(3, 3).double() for _ in scales))
        for layer, scale in zip(net, scales, strict=True):
            layer.weight.data *= scale
            layer.bias.data *= min(scale, 1)
        radius = certified_radius(net, x)
        assert radius.isfinite().all()
        assert lipschitz_bound(net) >= 0  # a number
        assert not (broken(net, x, radius.clamp_max(1e100)) & (radius > 0)).any()


def broken(net, x, radius, steps=150):
    """Which points a search within their radius breaks."""
    with torch.no_grad():
        y = net(x).argmax(1)
    return search(net, x, y, radius, steps, restarts=3).success


def last_rows(net, value):
    net[-1].weight.data = net[-1].weight.data[:1] * torch.ones(3, 1) + value * torch.randn_like(net[-1].weight.data)
    net[-1].bias.data = value * torch.randn(3)


def scale_of(net, factor, kind):
    for module in net.modules():
        if isinstance(module, kind):
            for p in module.parameters():
                p.data *= factor


def biases_that_cancel(net):
    stack = next(module for module in net if isinstance(module, HanStack))
    stack.u.data.zero_()
    stack.b.data[0::2], stack.b.data[1::2] = 1e6, -1e6


ODD = {
    "as it starts": lambda _: None,
    "zero u": lambda net: net[2].u.data.zero_(),
    "u of one entry": lambda net: net[2].u.data.zero_()[:, 0].fill_(1e-20),
    "huge u": lambda net: net[2].u.data.mul_(1e30),
    "huge b": lambda net: net[2].b.data.mul_(1e6),
    "biases that cancel": biases_that_cancel,
    "huge weights": lambda net: scale_of(net, 1e12, nn.Linear),
    "tiny weights": lambda net: scale_of(net, 1e-12, nn.Linear),
    "nearly equal logits": lambda net: last_rows(net, 1e-6),
    "equal logits": lambda net: last_rows(net, 0.0),
    "one input alone": lambda net: net[0].weight.data[:, 1:].zero_(),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("odd", ODD)
def test_no_search_breaks_a_certificate(odd, dtype):
    net = nn.Sequential(nn.Linear(4, 12), Abs(), HanStack(12, 6), nn.Linear(12, 3))
    ODD[odd](net)
    net, x = net.to(dtype), torch.randn(60, 4).to(dtype)
    radius = certified_radius(net, x)
    assert not broken(net, x, radius).any()
    if dtype == torch.float64 and odd not in ("equal logits", "biases that cancel"):
        assert (radius > 0).double().mean() > 0.9


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_search_would_break_what_is_a_little_larger(dtype):
    net, x = nn.Linear(4, 2).to(dtype), torch.randn(60, 4).to(dtype)
    radius = certified_radius(net, x)
    assert not broken(net, x, radius).any()
    assert broken(net, x, radius * 1.01 + 1e-4).all()


def test_equal_rows_need_no_distance_but_rounding_needs_one():
    """Two logits that differ by a constant: far out, rounding alone decides."""
    net = nn.Linear(8, 2)
    net.weight.data[1] = net.weight.data[0]
    net.bias.data = torch.tensor([1e-3, 0.0])
    radius = certified_radius(net, torch.randn(20, 8))
    assert (radius > 100).all()
    assert (radius < 1e6).all()


def test_certified_accuracy_counts_right_rows_within_the_radius():
    net, x = HanNet(3, 4, width=8, depth=4, lipschitz=True).double(), torch.randn(100, 3).double()
    radius, y = certified_radius(net, x), net(x).argmax(1)
    y[::4] = (y[::4] + 1) % 4
    right = torch.arange(100) % 4 > 0
    radii = [0.0, 0.01, 0.1, 1.0]
    shares = certified_accuracy(net, x, y, radii)
    assert shares == pytest.approx([0.75] + [(right & (radius > r)).double().mean().item() for r in radii[1:]])
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("y", "radii", "sentence"),
    [
        (torch.zeros(4).long(), [0.1], r"y must be \(5,\)"),
        (torch.zeros(5), [0.1], "got .* in torch.float32"),
        (torch.zeros(5).long(), [-0.1], "radii must be at least 0"),
        (torch.zeros(5).long(), [math.nan], "radii must be at least 0"),
        (torch.zeros(5).long(), [math.inf], "radii must be at least 0"),
    ],
)
def test_bad_classes_and_radii_are_named(y, radii, sentence):
    with pytest.raises(CertificateError, match=sentence):
        certified_accuracy(nn.Linear(3, 2), torch.ones(5, 3), y, radii)
