import pytest
import torch
from torch.func import vmap
from torch.testing import assert_close

from hannet import HanNet, HanStack, functional
from hannet.functional import han_stack
from hannet.ops import library

OPTIONS = [(1, True, True), (1, True, False), (2, True, True), (1, False, True), (2, False, False)]


def leaves(*tensors):
    return [t if t is None else t.clone().requires_grad_() for t in tensors]


@pytest.mark.slow
@pytest.mark.parametrize(("reflections", "apply_abs", "bias"), OPTIONS)
@pytest.mark.parametrize("members", [None, 2])
def test_operators_keep_pytorchs_rules(make, reflections, apply_abs, bias, members):
    x, u, b = leaves(*make(3, 5, 2, members=members, reflections=reflections, bias=bias))
    torch.library.opcheck(library.stack, (x, u, b, reflections, apply_abs))
    y, signs = (t.detach() for t in library.stack(x, u, b, reflections, apply_abs))
    grad_y = torch.randn_like(y, requires_grad=True)
    torch.library.opcheck(library.stack_backward, (grad_y, x, y, signs, u, b, reflections, apply_abs))


def test_autocast_computes_in_single_precision():
    model, x = HanStack(8, 4), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        net = HanNet(3, 2, width=8, depth=4)
        y = net(torch.randn(5, 3))
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()
        assert torch.equal(model(x), model(x.clone()))
        assert model(x).dtype == torch.float32
        assert_close(vmap(model)(x), model(x))
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("shape", [(5, 8), (8,), (0, 8)])
def test_meta_and_fake_tensors_have_the_same_shapes(shape):
    from torch._subclasses import FakeTensorMode

    assert HanStack(8, 4, device="meta")(torch.empty(shape, device="meta")).shape == shape
    with FakeTensorMode():
        model, x = HanStack(8, 4), torch.empty(shape, requires_grad=True)
        y = model(x)
        y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert model.u.grad.shape == (4, 8)


@torch.no_grad()
def test_a_gpus_operators_know_their_shapes_without_one():
    pytest.importorskip("triton")
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(7, 100, device="cuda", dtype=torch.bfloat16)
        u = torch.empty(20, 100, device="cuda")
        y, signs = torch.ops.hannet.stack(x, u, None, 1, True)
        grad_x, grad_u, _ = torch.ops.hannet.stack_backward(y, x, y, signs, u, None, 1, True)
        assert han_stack(x, u).dtype == y.dtype == grad_x.dtype == torch.bfloat16
        images = torch.empty(2, 100, 5, 5, device="cuda")
        mixed = functional.han_stacks(images.flatten(2), [(u, None, -2), (torch.empty(2, 25, device="cuda"), None, -1)])
        assert han_stack(images, u, dim=1).shape == images.shape
    assert mixed.shape == (2, 100, 25)
    assert (y.shape, grad_x.shape, grad_u.shape) == (x.shape, x.shape, u.shape)
    assert signs.dtype == torch.uint8
    assert grad_u.dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.ones(4, 8).half(), torch.ones(2, 8).half(), None, 1, True),
        (torch.ones(4, 8), torch.ones(2, 8).double(), None, 1, True),
        (torch.ones(4, 8), torch.ones(2, 7), None, 1, True),
        (torch.ones(4, 8), torch.ones(2, 8), torch.ones(1, 3), 1, True),
        (torch.ones(4, 8), torch.ones(3, 2, 8), None, 1, True),
        (torch.ones(4, 8), torch.ones(3, 8), None, 2, True),
        (torch.ones(4, 8), torch.ones(2, 8), None, 1, True, -2),
        (torch.ones(8, 4), torch.ones(2, 8), None, 1, True, 0),
        (torch.ones(8), torch.ones(2, 8), None, 1, True, -2),
    ],
)
def test_the_operator_itself_refuses_what_does_not_fit(arguments):
    with pytest.raises(ValueError, match="do not fit together"):
        torch.ops.hannet.stack(*arguments)


def test_the_backward_operator_refuses_foreign_signs():
    x, u = torch.randn(4, 8), torch.randn(2, 8)
    y, signs = torch.ops.hannet.stack(x, u, None, 1, True)
    with pytest.raises(ValueError, match="do not belong"):
        torch.ops.hannet.stack_backward(y, x, y, signs[:, 1:], u, None, 1, True)


def test_vmap_over_nothing_and_over_empty_batches():
    u = torch.randn(3, 6)
    assert vmap(lambda x: han_stack(x, u))(torch.randn(3, 0, 6)).shape == (3, 0, 6)
    assert vmap(lambda x: han_stack(x, u))(torch.randn(0, 6)).shape == (0, 6)
