import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from hannet import HanNet, HanStack, ops
from hannet.functional import han_stack
from hannet.ops import library, reference

OPTIONS = [(1, True, True), (1, True, False), (2, True, True), (1, False, True), (2, False, False)]


def leaves(*tensors):
    return [t if t is None else t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize(("reflections", "apply_abs", "bias"), OPTIONS)
@pytest.mark.parametrize("members", [None, 2])
def test_first_and_second_derivatives(make, reflections, apply_abs, bias, members):
    inputs = leaves(*make(2, 3, 2, members=members, reflections=reflections, bias=bias, margin=1e-3))

    def run(*inputs):
        return ops.stack(*inputs, reflections, apply_abs)

    torch.autograd.gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(run, inputs, check_batched_grad=True)


@pytest.mark.slow
@pytest.mark.parametrize(("reflections", "apply_abs", "bias"), OPTIONS)
@pytest.mark.parametrize("members", [None, 2])
def test_derivatives_and_rules_with_the_features_last_but_one(make, reflections, apply_abs, bias, members):
    x, u, b = make(4, 3, 2, members=members, reflections=reflections, bias=bias, margin=1e-3)
    inputs = leaves(x.unflatten(-2, (2, 2)).mT.contiguous(), u, b)

    def run(*inputs):
        return ops.stack(*inputs, reflections, apply_abs, -2)

    torch.autograd.gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(run, inputs)
    torch.library.opcheck(library.stack, (*inputs, reflections, apply_abs, -2))
    y, signs = (t.detach() for t in library.stack(*inputs, reflections, apply_abs, -2))
    grad_y = torch.randn_like(y, requires_grad=True)
    x, u, b = inputs
    torch.library.opcheck(library.stack_backward, (grad_y, x, y, signs, u, b, reflections, apply_abs, -2))


@pytest.mark.parametrize("bias", [True, False])
def test_derivatives_of_a_run_of_stacks(make, bias):
    tokens, channels = make(4, 3, 2, bias=bias, margin=1e-3), make(3, 4, 1, bias=bias, margin=1e-3)
    x, flat = tokens[0].T.contiguous()[None], [*tokens[1:], *channels[1:]]
    while _closest(x, flat) < 1e-3:
        x = torch.randn(1, 3, 4, dtype=torch.double)
    inputs = leaves(x, *flat)

    def run(*inputs):
        x, u1, b1, u2, b2 = inputs
        return ops.stacks(x, [(u1, b1), (u2, b2)], [-2, -1])

    torch.autograd.gradcheck(run, inputs, check_batched_grad=True)
    torch.autograd.gradgradcheck(run, inputs)
    mapped = vmap(lambda x: run(x, *inputs[1:]))(torch.stack([x, x]))
    assert_close(mapped, torch.stack([run(x, *inputs[1:])] * 2))
    y = run(*inputs)
    wanted = [t for t in inputs if t is not None]
    first = torch.autograd.grad(y.sum(), wanted, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(y.sum(), wanted)))


@pytest.mark.parametrize("tied", [lambda u: u, lambda u: u.flip(0).tanh()])
@pytest.mark.parametrize("batched", [True, False])
def test_parameters_of_a_run_may_come_twice_or_from_one_another(make, tied, batched):
    x, u, b = inputs = leaves(*make(4, 16, 2))

    def derivatives(run):
        other = tied(u)
        y = run(x, [(u, b), (other, b), (u, other)])
        slopes = torch.linspace(-1, 1, 3 * y.numel()).double().view(3, *y.shape)
        if batched:
            return torch.autograd.grad(y, inputs, slopes, is_grads_batched=True)
        first = torch.autograd.grad(y, inputs, slopes[0], create_graph=True)
        return *first, *torch.autograd.grad(sum(t.square().sum() for t in first), inputs)

    def reference_stacks(x, parameters):
        for pair in parameters:
            x = reference.stack(x, *pair)
        return x

    ours = derivatives(lambda x, parameters: ops.stacks(x, parameters, [-1, -1, -1]))
    assert_close(ours, derivatives(reference_stacks))


def _closest(x, flat):
    """The smallest |z| of the two stacks' layers."""
    nearest = torch.inf
    for u, b, dim in ((flat[0], flat[1], -2), (flat[2], flat[3], -1)):
        for layer in range(len(u)):
            z = reference.stack(x, u[layer], None if b is None else b[layer], 1, False, dim)
            nearest, x = min(nearest, float(z.abs().min())), z.abs()
    return nearest


def test_second_derivatives_where_only_some_inputs_want_them(make):
    x, u, b = make(2, 3, 2, margin=1e-3)
    for wanted in range(3):
        inputs = [t.requires_grad_(index == wanted) for index, t in enumerate((x.clone(), u.clone(), b.clone()))]
        torch.autograd.gradgradcheck(han_stack, inputs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(reentrant, make):
    inputs = leaves(*make(5, 8, 3))
    expected = torch.autograd.grad(han_stack(*inputs).sum(), inputs)
    checkpoint(han_stack, *inputs, use_reentrant=reentrant).sum().backward()
    assert all(torch.equal(t.grad, other) for t, other in zip(inputs, expected, strict=True))


def test_saved_tensors_may_be_packed(make):
    inputs = leaves(*make(5, 8, 3))
    expected = torch.autograd.grad(han_stack(*inputs).sum(), inputs)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
        y = han_stack(*inputs)
    assert all(map(torch.equal, torch.autograd.grad(y.sum(), inputs), expected))


def test_a_changed_parameter_is_noticed(make):
    x, u, b = leaves(*make(5, 8, 3))
    y = han_stack(x, u, b)
    with torch.no_grad():
        u += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    "run", [han_stack, lambda x, u, b: library.stack(x, u, b, 1, True)[0]], ids=["at once", "operator"]
)
@pytest.mark.parametrize(
    "change", [lambda y, x: y.add_(x), lambda y, _: nn.ReLU(inplace=True)(y)], ids=["y += x", "ReLU(inplace=True)"]
)
def test_an_output_changed_in_place_says_what_to_write(make, run, change):
    x, u, b = leaves(*make(5, 8, 3))
    y = change(run(x, u, b), x)
    with pytest.raises(RuntimeError, match=r"write y = y \+ x, or ReLU\(\)"):
        y.sum().backward()


def test_a_second_backward_pass_is_refused_in_pytorchs_words(make):
    y = han_stack(*leaves(*make(5, 8, 3))).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


@pytest.mark.slow
def test_gradients_without_memory_are_zeros():
    """In a process of its own: what reads them ends it. The second derivative of abs is such a tensor."""
    program = """if True:
        import torch
        from hannet.functional import han_stack, han_stacks
        for run in (han_stack, lambda x, u, b: han_stacks(x, [(u, b, -1)])):
            x, u, b = (torch.randn(size, 20, requires_grad=True) for size in (5, 3, 3))
            assert all(not g.any() for g in torch.autograd.grad(run(x, u, b).sgn().sum(), (x, u, b)))
            first = torch.autograd.grad(run(x, u, b).abs().sum(), x, create_graph=True)[0]
            assert torch.autograd.grad(first.square().sum(), u)[0].isfinite().all()
    """
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_backward_twice_needs_the_graph_to_be_kept(make):
    inputs = leaves(*make(5, 8, 3))
    loss = han_stack(*inputs).sum()
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, inputs)))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("count", [1, 2])
def test_two_python_threads_at_once(threads, count):
    threads(count)
    models = [HanStack(100, 20), HanStack(64, 50)]
    rows = [torch.randn(200, 100), torch.randn(300, 64)]
    start = Barrier(2)

    def gradients(model, x):
        return [torch.autograd.grad(model(x).sum(), [model.u, model.b]) for _ in range(20)][-1]

    def together(model, x):
        start.wait()
        return gradients(model, x)

    expected = list(map(gradients, models, rows))
    with ThreadPoolExecutor(2) as pool:
        for ours, theirs in zip(pool.map(together, models, rows), expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_replicas_run_side_by_side():
    """As nn.DataParallel does: parameters of replicas are plain tensors, their gradients meet in the module."""
    model, x = HanNet(3, 2, width=8, depth=4), torch.randn(10, 3)

    def replica(module):
        copied = module._replicate_for_data_parallel()
        for name, child in module._modules.items():
            copied._modules[name] = replica(child)
        for name, parameter in module._parameters.items():
            setattr(copied, name, None if parameter is None else parameter.clone())
        return copied

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(replica(model), part) for part in x.split(5)]
    halves = [run.result() for run in runs]
    torch.cat(halves).sum().backward()
    alone = copy.deepcopy(model)
    alone.zero_grad()
    alone(x).sum().backward()
    for one, other in zip(model.parameters(), alone.parameters(), strict=True):
        assert_close(one.grad, other.grad)
