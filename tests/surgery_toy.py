"""A small model, and a step of its training in two processes, which must find it in a module of their own."""

import torch
from torch import Tensor, nn

from hannet.surgery import replace_feedforward, replace_linear


def plain():
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 8), nn.Linear(8, 3)).eval()


def ddp_step(rank: int, folder: str, results: dict[int, list[Tensor]]) -> None:
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = plain()
    replace_linear(model, "4", by=2, steps=0)
    replace_feedforward(model)
    parallel = DistributedDataParallel(model)
    torch.manual_seed(rank)
    parallel(torch.randn(4, 8)).square().mean().backward()
    results[rank] = [p.grad.clone() for p in model.parameters()]
    dist.destroy_process_group()
