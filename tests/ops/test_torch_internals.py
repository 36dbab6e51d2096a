"""Each private name of PyTorch that we use still means what the public behaviour beside it says."""

import ctypes
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

from hannet.ops import torch_internals as internals

STATE = (internals.nothing_watches, internals.is_tracing, internals.in_forward_mode, internals.in_dispatch_mode)


def states():
    return [state() for state in STATE] + [
        internals.in_transform(kind) for kind in (None, internals.GRAD, internals.JVP)
    ]


def within(transform):
    """The states while a function of x is called under a transform."""
    seen = []
    transform(lambda x: seen.append(states()) or x.sum())
    return seen[0]


NOTHING = [True, *[False] * 6]
X = torch.ones(3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (lambda f: f(X), NOTHING),
        (lambda f: torch.jit.trace(f, X, check_trace=False), [False, True, *[False] * 5]),
        (lambda f: vmap(f)(X), [False, False, False, False, True, False, False]),
        (lambda f: grad(f)(X), [False, False, False, False, True, True, False]),
        (lambda f: jvp(f, (X,), (X,)), [False, False, True, False, True, False, True]),
        (lambda f: vmap(grad(f))(torch.ones(2, 3)), [False, False, False, False, True, True, False]),
    ],
)
def test_what_watches_a_call(transform, expected):
    assert within(transform) == expected
    assert states() == NOTHING


def test_forward_mode_and_dispatch_modes():
    with forward_ad.dual_level():
        assert states() == [False, False, True, False, False, False, False]
    with FakeTensorMode():
        assert states() == [False, False, False, True, False, False, False]
    assert states() == NOTHING


def test_batched_gradients_are_told_from_plain_ones():
    seen = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, slope):
            seen.append(internals.is_batched(slope))
            return slope

    x = torch.ones(3, requires_grad=True)
    y = Watch.apply(x)
    torch.autograd.grad(y, x, torch.ones(3), retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(2, 3), is_grads_batched=True)
    assert seen == [False, True]


def test_gradients_without_memory_are_told_from_others():
    seen = []
    x = torch.ones(3, requires_grad=True)
    for loss in (x.sgn().sum(), x.sum()):
        (slope,) = torch.autograd.grad(loss, x)
        seen.append(internals.is_zero_tensor(slope))
    assert seen == [True, False]


def test_torch_compile_asks_a_constant_once():
    calls = []

    @internals.constant_when_compiled
    def answer(device):
        calls.append(device)
        return 2.0

    compiled = torch.compile(lambda x: x * answer(x.device.type), fullgraph=True, backend="eager")
    assert [compiled(X).tolist(), compiled(X + 1).tolist()] == [[2, 2, 2], [4, 4, 4]]
    assert calls == ["cpu"]


def test_leaky_relu_into_given_memory():
    x, out = torch.randn(5), torch.full((5,), torch.nan)
    assert internals.leaky_relu(x, -1.0, out=out) is out
    assert torch.equal(out, F.leaky_relu(x, -1.0))


@pytest.mark.parametrize(
    ("step", "optimizer"),
    [(internals.fused_adam_, torch.optim.Adam), (internals.fused_adamw_, torch.optim.AdamW)],
)
def test_fused_steps_are_those_of_torch_optim(step, optimizer):
    ours, slopes = torch.randn(7), [torch.randn(7) for _ in range(3)]
    means, squares, count, theirs = torch.zeros(7), torch.zeros(7), torch.zeros(()), nn.Parameter(ours.clone())
    public = optimizer([theirs], lr=0.1, weight_decay=0.3, fused=True)
    for slope in slopes:
        theirs.grad = slope.clone()
        public.step()
        count += 1
        options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.3, "eps": 1e-8}
        step([ours], [slope], [means], [squares], [], [count], **options, amsgrad=False, maximize=False)
    assert torch.equal(ours, theirs)


def test_steps_of_lists_are_those_of_their_tensors():
    x, y, z = ([torch.randn(size) for size in (3, 1)] for _ in range(3))
    by_lists, alone = ([t.clone() for t in x] for _ in range(2))
    internals.foreach_mul_(by_lists, 0.5)
    internals.foreach_add_(by_lists, y)
    internals.foreach_addcmul_(by_lists, y, z)
    for t, a, b in zip(alone, y, z, strict=True):
        t.mul_(0.5).add_(a).addcmul_(a, b)
    assert all(map(torch.equal, by_lists, alone))
    assert all(map(torch.equal, internals.foreach_addcmul(x, y, z), map(torch.addcmul, x, y, z)))


HOOKS = {
    "forward": lambda module: module.register_forward_hook(print),
    "forward_pre": lambda module: module.register_forward_pre_hook(print),
    "backward": lambda module: module.register_full_backward_hook(print),
    "backward_pre": lambda module: module.register_full_backward_pre_hook(print),
    "global": lambda _: nn.modules.module.register_module_forward_hook(print),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_are_seen_until_they_are_removed(kind):
    module = nn.Linear(2, 2)
    assert not internals.has_hooks(module)
    handle = HOOKS[kind](module)
    try:
        assert internals.has_hooks(module)
        assert internals.has_hooks(module, backward=False) == (not kind.startswith("backward"))
    finally:
        handle.remove()
    assert not internals.has_hooks(module)


def test_a_replaced_forward_is_a_hook():
    module = nn.Identity()
    module.forward = lambda x: x
    assert internals.has_hooks(module)


@pytest.mark.skipif(sys.platform != "linux", reason="the names of libraries are those of Linux")
def test_pytorchs_library_brings_its_openmp_runtime():
    assert ctypes.CDLL(internals.torch_library()).GOMP_parallel


def test_a_dispatch_mode_sees_what_draws():
    seen = []

    class Watch(internals.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append((function.overloadpacket, torch.Tag.nondeterministic_seeded in function.tags))
            return function(*args, **(kwargs or {}))

    with Watch():
        nn.init.uniform_(torch.empty(2))
    assert (torch.ops.aten.uniform_, True) in seen
    assert (torch.ops.aten.empty, False) in seen
