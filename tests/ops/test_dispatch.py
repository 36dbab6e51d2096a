from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, vmap

import hannet
from hannet import HanLayer, functional
from hannet.functional import han_stack
from hannet.ops import dispatch
from hannet.train.backprop import build_backprop


class Tagged(torch.Tensor):
    """A subclass that wants to see every operator."""


def test_subclasses_of_tensor_stay_what_they_are(make):
    x, u, b = make(5, 8, 3)
    y = han_stack(x.as_subclass(Tagged), u, b)
    assert type(y) is Tagged
    assert torch.equal(y.as_subclass(torch.Tensor), han_stack(x, u, b))


def test_explains_every_dtype():
    paths = [path for path in dispatch.kernel_choices() if path.device == "cpu"]
    assert [path.dtype for path in paths] == ["float32", "float64", "bfloat16", "float16"]
    assert all(path.path == "kernel" and "Numba" in path.reason for path in paths)


@pytest.mark.parametrize(
    ("device", "width", "triton", "reason"),
    [
        ("mps", 8, True, "no kernel for mps"),
        ("cuda", 8, False, "Triton is not installed"),
        ("cuda", 8193, True, "more than 8192 features"),
        ("cuda", 8192, True, None),
        ("cpu", 8193, False, None),
    ],
)
def test_why_no_kernel_serves(monkeypatch, device, width, triton, reason):
    monkeypatch.setattr(dispatch, "TRITON", triton)
    rule = dispatch.find_rule(dispatch.Call(device, device == "cuda" and width > dispatch.WIDEST))
    assert (rule.code == "kernel") == (reason is None)
    assert reason is None or reason in rule.reason.format(device=device)


def test_where_numba_does_not_compile_the_reference_serves(monkeypatch, make):
    monkeypatch.setattr(dispatch, "NUMBA", False)
    x, u, b = make(5, 8, 3)
    assert dispatch.choose(x, u, b) == "reference"
    assert {choice[2:] for choice in dispatch.kernel_choices()} == {
        ("reference", "NUMBA_DISABLE_JIT turns Numba's compiler off")
    }
    with pytest.raises(RuntimeError, match="NUMBA_DISABLE_JIT"):
        dispatch.kernels.__wrapped__("cpu")
    net = nn.Sequential(hannet.HanStack(8, 2), hannet.MaxMin())
    assert not build_backprop(net, "", dict(net.named_parameters()))


def traced(choose, x):
    found = []
    torch.jit.trace(lambda x: found.append(choose(x)) or x, x, check_trace=False)
    return found[0]


def mapped(transform, choose, x):
    found = []
    transform(lambda x: found.append(choose(x)) or x.sum())(x)
    return found[0]


def forward_mode(choose, x):
    with forward_ad.dual_level():
        return choose(x)


def exported(choose, x):
    found = []

    class Net(nn.Module):
        def forward(self, x):
            found.append(choose(x))
            return x + 0

    torch.export.export(Net(), (x,), strict=False)
    return found[0]


def in_mode(choose, x):
    with FakeTensorMode(allow_non_fake_inputs=True):
        return choose(x)


SITUATIONS = {
    "an exported program holds plain PyTorch operators": exported,
    "a traced program holds plain PyTorch operators": traced,
    "forward-mode differentiation goes through PyTorch's own rules": forward_mode,
    "torch.func.grad cannot differentiate custom operators": partial(mapped, grad),
    "torch.func.vmap runs the kernel once for the whole batch": partial(mapped, vmap),
    "dispatch modes see one operator": in_mode,
    "subclasses of Tensor see one operator": lambda choose, x: choose(x.as_subclass(Tagged)),
    "nothing watches the call": lambda choose, x: choose(x),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reason", SITUATIONS)
def test_every_rule_of_the_table_has_its_place(reason, monkeypatch):
    seen = []
    monkeypatch.setattr(
        dispatch, "find_rule", lambda call, find=dispatch.find_rule: seen.append(find(call)) or seen[-1]
    )

    def choose(x):
        code, plain = dispatch.choose(x, x, None), dispatch.is_plain(x, x, None)
        assert plain == (code == dispatch.KERNEL)  # the short cut and the table agree
        return seen[-1] if seen else dispatch.RULES[-1]

    rule = SITUATIONS[reason](choose, torch.randn(3))
    assert rule.reason == reason
    assert rule in dispatch.RULES


def test_one_dispatch_for_modules_and_functions(make, kernel_only):
    x, u, b = make(5, 8, 3, dtype=torch.float32)
    layer = HanLayer(8)
    layer.u, layer.b = nn.Parameter(u[0]), nn.Parameter(b[0])
    assert torch.equal(layer(x), functional.han_layer(x, u[0], b[0]))
