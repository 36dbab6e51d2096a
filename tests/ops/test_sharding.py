"""Two processes that share out the rows of a DTensor."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from hannet.functional import han_stack

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def check(x, u, b, at, parameters_at, dim, expected_at):
    mine = [None if t is None else t.clone().requires_grad_() for t in (x, u, b)]
    shared = [
        None if t is None else distribute_tensor(t.detach(), mesh, [place]).requires_grad_()
        for t, place in zip(mine, (at, parameters_at, parameters_at))
    ]
    y, expected = han_stack(*shared, dim=dim), han_stack(*mine, dim=dim)
    assert y.placements == (expected_at,), (y.placements, expected_at)
    torch.testing.assert_close(y.full_tensor(), expected)
    gradient = torch.randn_like(expected)
    expected.backward(gradient)
    y.backward(distribute_tensor(gradient, mesh, [expected_at]))
    for t, other in zip(shared, mine):
        if t is not None:
            torch.testing.assert_close(t.grad.full_tensor(), other.grad)


every = Replicate()
x, u, b = torch.randn(5, 3, 8), torch.randn(3, 8), torch.randn(3, 8)
for at, then in ((every, every), (Shard(0), Shard(0)), (Shard(1), Shard(1)), (Shard(2), every)):
    check(x, u, b, at, every, -1, then)
check(x, u, None, Shard(0), every, -1, Shard(0))
check(torch.randn(3, 8, 20), u, b, Shard(2), every, 1, Shard(2))
members = torch.randn(4, 6, 8), torch.randn(4, 3, 8), torch.randn(4, 3, 8)
check(*members, Shard(1), every, -1, Shard(1))
check(*members, Shard(0), Shard(0), -1, Shard(0))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_rows_may_be_shared_out_and_gradients_are_those_of_one_process(tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")]) for rank in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
