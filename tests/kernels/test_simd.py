import subprocess
import sys

import pytest


@pytest.mark.parametrize("register", [16, 32])
def test_shorter_registers_compute_the_same(register):
    """As on processors without AVX-512 or AVX2; in a process of its own, because compiled code is never forgotten."""
    code = f"""
from hannet.kernels import simd
simd.REGISTER = {register}
import torch
from hannet import reference
from hannet.functional import han_stack
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
for rows, width in ((1, 1), (5, 3), (4, 8), (7, 33)):
    inputs = [torch.randn(n, width, requires_grad=True) for n in (rows, 6, 3)]
    y, expected = han_stack(*inputs, reflections=2), reference.stack(*inputs, 2)
    torch.testing.assert_close(y, expected)
    grads = zip(torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(expected.sum(), inputs))
    for one, other in grads:
        torch.testing.assert_close(one, other)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
