import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet.train import losses
from hannet.train.losses import loss as loss_named

MEMBERS, BATCH, OUT = 3, 5, 4


def hkr(outputs, y, margin=1.0, alpha=10.0):
    """Class after class: alpha times the hinge, less the difference of the means that the 1-Lipschitz output parts."""
    losses = []
    for f, mine in zip(outputs.T, y.T.bool(), strict=True):
        hinge = torch.where(mine, margin / 2 - f, margin / 2 + f).clamp_min(0).mean()
        means = [f[rows].sum() / max(1, int(rows.sum())) for rows in (mine, ~mine)]
        losses.append(alpha * hinge - (means[0] - means[1]))
    return torch.stack(losses).mean()


def torchs_margin(margin):
    return lambda outputs, y: nn.MultiMarginLoss(margin=margin)(outputs, y.argmax(1))


def warm(temperature):
    return lambda outputs, y: temperature * nn.functional.cross_entropy(outputs / temperature, y)


CASES = {
    "mse": ({}, nn.functional.mse_loss),
    "cross_entropy": ({}, nn.functional.cross_entropy),
    "cross_entropy, warm": ({"temperature": 3.0}, warm(3.0)),
    "cross_entropy, cold": ({"temperature": 0.1}, warm(0.1)),
    "multi_margin": ({}, torchs_margin(1.0)),
    "multi_margin, wide": ({"margin": 4.0}, torchs_margin(4.0)),
    "hkr": ({}, hkr),
    "hkr, wide": ({"margin": 3.0, "alpha": 2.0}, lambda outputs, y: hkr(outputs, y, 3.0, 2.0)),
}


@pytest.fixture(params=CASES)
def case(request):
    """Our loss, its equation, outputs, and targets: classes, and probabilities where the loss takes them."""
    options, equation = CASES[request.param]
    name = request.param.split(",")[0]
    outputs = 3 * torch.randn(MEMBERS, BATCH, OUT, dtype=torch.double)
    y = nn.functional.one_hot(torch.randint(OUT, (MEMBERS, BATCH)), OUT).double()
    if name in ("mse", "cross_entropy"):
        y[:, 1:] = torch.randn(MEMBERS, BATCH - 1, OUT, dtype=torch.double).softmax(2)
    return loss_named(name, **options), equation, outputs, y


def test_all_losses_are_tried():
    assert {name.split(",")[0] for name in CASES} == set(losses.NAMES)
    with pytest.raises(ValueError, match="loss must be one of mse, cross_entropy, multi_margin, hkr, got 'hinge'"):
        loss_named("hinge")


def test_each_members_value_is_the_equations(case):
    loss, equation, outputs, y = case
    assert_close(loss.value(outputs, y), torch.stack(list(map(equation, outputs, y))))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_slope_is_the_derivative_of_the_value(case, weighted):
    loss, _, outputs, y = case
    weights = [torch.rand(MEMBERS, BATCH, dtype=torch.double)] if weighted else []
    leaf = outputs.clone().requires_grad_()
    loss.value(leaf, y, *weights).sum().backward()
    assert_close(loss.slope(outputs, y, *weights), leaf.grad)


def test_the_slope_has_memory_of_its_own(case):
    loss, _, outputs, y = case
    weights = torch.rand(MEMBERS, BATCH, dtype=torch.double)
    kept = [part.clone() for part in (outputs, y, weights)]
    loss.slope(outputs, y, weights).fill_(torch.nan)
    assert all(torch.equal(part, old) for part, old in zip((outputs, y, weights), kept, strict=True))


def test_a_member_does_not_depend_on_its_company(case):
    loss, _, outputs, y = case
    for one in range(MEMBERS):
        assert_close(loss.value(outputs, y)[one], loss.value(outputs[one : one + 1], y[one : one + 1])[0])
        assert_close(loss.slope(outputs, y)[one], loss.slope(outputs[one : one + 1], y[one : one + 1])[0])


# in hkr a weight is that of a row's part of the means of classes, which other rows share
@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("hkr")], indirect=True)
def test_a_weight_of_two_counts_a_row_twice(case):
    loss, _, outputs, y = case
    weights = torch.tensor([1.0, 2, 1, 1, 1]).double().expand(MEMBERS, -1)
    rows = [0, 1, 1, 2, 3, 4]
    assert_close(loss.value(outputs, y, weights) * 5, loss.value(outputs[:, rows], y[:, rows]) * 6)
    once = loss.slope(outputs[:, rows], y[:, rows]) * 6
    assert_close(loss.slope(outputs, y, weights)[:, 1] * 5, once[:, 1] + once[:, 2])


def test_weights_of_one_change_no_bit(case):
    loss, _, outputs, y = case
    outputs, y = outputs.float(), y.float()
    ones = torch.ones(MEMBERS, BATCH)
    assert torch.equal(loss.value(outputs, y, ones), loss.value(outputs, y))
    assert torch.equal(loss.slope(outputs, y, ones), loss.slope(outputs, y))


def test_cross_entropy_of_large_outputs_stays_finite():
    outputs, y = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]]]), torch.tensor([[[1.0, 0], [1, 0]]])
    loss = loss_named("cross_entropy")
    assert_close(loss.value(outputs, y), torch.tensor([1e4]))
    assert_close(loss.slope(outputs, y), torch.tensor([[[0.0, 0], [-0.5, 0.5]]]))


def test_the_slope_of_cross_entropy_has_one_size_at_every_temperature():
    outputs, y = torch.zeros(1, 1, OUT), nn.functional.one_hot(torch.tensor([[0]]), OUT).float()
    slopes = [loss_named("cross_entropy", temperature).slope(outputs, y) for temperature in (0.01, 1.0, 100.0)]
    assert_close(slopes[0], slopes[1])
    assert_close(slopes[2], slopes[1])


def test_margins_that_are_kept_cost_nothing():
    outputs, y = torch.tensor([[[2.0, 0.9, -3.0]]]), torch.tensor([[[1.0, 0, 0]]])
    loss = loss_named("multi_margin", margin=1.0)
    assert loss.value(outputs, y) == 0
    assert not loss.slope(outputs, y).any()


def test_hkr_of_a_batch_that_lacks_a_class_stays_finite():
    outputs, y = torch.randn(1, 4, 3), nn.functional.one_hot(torch.tensor([[0, 0, 0, 0]]), 3).float()
    loss = loss_named("hkr")
    assert loss.value(outputs, y).isfinite().all()
    assert loss.slope(outputs, y).isfinite().all()
