import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet.losses import loss as loss_named

TORCHS = {"mse": nn.functional.mse_loss, "cross_entropy": nn.functional.cross_entropy}
MEMBERS, BATCH, OUT = 3, 5, 4


@pytest.fixture(params=LOSSES)
def case(request):
    """Our loss, PyTorch's, outputs, and targets of which some are one class and some are shared among classes."""
    outputs = 3 * torch.randn(MEMBERS, BATCH, OUT, dtype=torch.double)
    y = torch.randn(MEMBERS, BATCH, OUT, dtype=torch.double).softmax(2)
    y[:, 0] = nn.functional.one_hot(torch.arange(MEMBERS), OUT)
    return loss_named(request.param), TORCHS[request.param], outputs, y


def test_each_members_value_is_torchs(case):
    loss, torchs, outputs, y = case
    assert_close(loss.value(outputs, y), torch.stack(list(map(torchs, outputs, y))))


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
