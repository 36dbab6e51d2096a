import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("register", [16, 32])
def test_shorter_registers_compute_the_same(register):
    """As on processors without AVX-512 or AVX2; in a process of its own, because compiled code is never forgotten."""
    code = f"""
from hannet.ops.cpu import simd
simd.REGISTER = {register}
import torch
from hannet.ops import reference
from hannet.functional import han_stack
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
for rows, width, dim in ((1, 1, -1), (5, 3, -1), (4, 8, -1), (7, 33, -1), (40, 5, 0), (16, 2, 0)):
    inputs = [torch.randn(n, width).requires_grad_() for n in (rows, 6, 3)]
    x = inputs[0] if dim == -1 else inputs[0].T.contiguous()
    y = han_stack(x, *inputs[1:], reflections=2, dim=dim).movedim(dim, -1)
    expected = reference.stack(*inputs, 2)
    torch.testing.assert_close(y, expected)
    grads = zip(torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(expected.sum(), inputs))
    for one, other in grads:
        torch.testing.assert_close(one, other)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
