"""Inputs for every test of the layers, and the command line."""

import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

from hannet import ops
from hannet.ops import autograd, library, reference

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background; what the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def needs_compiler():
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler, cc")


@pytest.fixture
def needs_wasm_compiler():
    from hannet.export import ExportError, wasm

    try:
        wasm.compiler()
    except ExportError as error:
        pytest.skip(str(error))


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _nearest_kink(x, u, b, reflections):
    """The smallest |z| on each row's way through a stack."""
    nearest = torch.full(x.shape[:-1], torch.inf, dtype=x.dtype)
    for layer, group in enumerate(u.split(reflections)):
        z = reference.stack(x, group, None if b is None else b[layer], reflections, apply_abs=False)
        nearest = nearest.minimum(z.abs().amin(-1))
        x = z.abs()
    return nearest


@pytest.fixture
def make():
    """x, u, b in float32 values of one size whose activations all keep a margin from the kink of ABS."""

    def inputs(rows, width, depth, *, members=None, reflections=1, bias=True, dtype=torch.float64, margin=1e-5):
        if members is not None:
            parts = [
                inputs(rows, width, depth, reflections=reflections, bias=bias, dtype=dtype, margin=margin)
                for _ in range(members)
            ]
            x, u, b = zip(*parts, strict=True)
            return torch.stack(x), torch.stack(u), torch.stack(b) if bias else None
        u = torch.randn(depth * reflections, width).double()
        b = torch.randn(depth, width).double() if bias else None
        x = torch.randn(rows, width).double()
        while (close := _nearest_kink(x, u, b, reflections) < margin).any():
            x[close] = torch.randn(int(close.sum()), width).double()
        return x.to(dtype), u.to(dtype), None if b is None else b.to(dtype)

    return inputs


@pytest.fixture
def kernel_only(monkeypatch):
    """Fails the test where anything falls back to the reference."""

    def stack(*args):
        pytest.fail("fell back to the reference")

    for module in (ops, autograd, library):
        monkeypatch.setattr(module, "reference", SimpleNamespace(stack=stack))


@pytest.fixture
def hannet(monkeypatch, capsys):
    """Runs a command line; gives exit code, standard output, standard error."""

    from hannet import cli

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hannet", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return call
