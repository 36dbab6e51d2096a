import pytest
import torch
from torch.testing import assert_close

from hannet.ops import reference

EXTREMES = [(torch.float32, 1e-30), (torch.float32, 1e30), (torch.float64, 1e-200), (torch.float64, 1e200)]


@pytest.mark.parametrize("features", [1, 2, 7, 100])
def test_householder_is_the_matrix_of_the_paper(features):
    x, u, b = torch.randn(3, 5, features, dtype=torch.double).unbind()
    u, b = u[0], b[0]
    H = torch.eye(features, dtype=torch.double) - 2 * torch.outer(u, u) / u.dot(u)
    assert_close(reference.householder(x, u, b), x @ H.T + b, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("dtype", "norm"), EXTREMES)
def test_the_norm_of_u_does_not_matter(dtype, norm):
    u = torch.randn(3, 8, dtype=dtype)
    assert_close(reference.unit(u * norm), reference.unit(u))
    assert_close(reference.unit(u).norm(dim=-1), torch.ones(3, dtype=dtype))


def test_a_zero_u_is_the_identity_and_gets_no_gradient():
    x, u = torch.randn(5, 8), torch.zeros(8, requires_grad=True)
    y = reference.householder(x, u)
    y.square().sum().backward()
    assert torch.equal(y, x)
    assert torch.equal(u.grad, torch.zeros(8))


def test_the_absolute_value_has_slope_plus_one_at_zero():
    z = torch.tensor([-2.0, -0.0, 0.0, 3.0, -torch.inf, torch.nan], requires_grad=True)
    y = reference.absolute(z)
    y.sum().backward()
    assert_close(y.detach(), z.detach().abs(), rtol=0, atol=0, equal_nan=True)
    assert z.grad.tolist() == [-1, 1, 1, 1, -1, 1]


@pytest.mark.parametrize("reflections", [1, 2, 3])
@pytest.mark.parametrize("apply_abs", [True, False])
def test_a_stack_is_its_layers_one_after_another(make, reflections, apply_abs):
    x, u, b = make(5, 7, 4, reflections=reflections)
    expected = x
    for layer in range(4):
        for inner in range(reflections):
            expected = reference.householder(expected, u[layer * reflections + inner])
        expected = expected + b[layer]
        expected = expected.abs() if apply_abs else expected
    assert_close(reference.stack(x, u, b, reflections, apply_abs), expected)


@pytest.mark.parametrize("lead", [(5,), (), (2, 0), (2, 3)])
def test_members_are_stacks_of_their_own(lead):
    x, u, b = torch.randn(3, *lead, 8), torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    apart = torch.stack([reference.stack(*one) for one in zip(x, u, b, strict=True)])
    assert_close(reference.stack(x, u, b), apart)
