"""How the operators run on DTensors: rows may be shared out over processes, features and parameters may not."""

import sys
from functools import cache
from typing import Any

import torch

Rule = tuple[list[Any], list[Any]]  # placements of the outputs, and of the inputs


def register_if_used() -> None:
    """Tell DTensor the rules, once a program has imported it: the import takes long."""
    if "torch.distributed.tensor" in sys.modules:
        _register()


@cache
def _register() -> None:
    from torch.distributed.tensor import Partial, Replicate, Shard
    from torch.distributed.tensor.experimental import register_sharding

    every, total = Replicate(), Partial()

    def shards(x: Any, u: Any, dim: int) -> list[tuple[Any, Any, Any]]:
        """Where x, the sign bits, and u and b may be cut together."""
        members = len(u.shape) == 3
        rows = [axis for axis in range(members, len(x.shape)) if axis != len(x.shape) + dim]
        return [(every, every, every), *((Shard(axis), Shard(1), every) for axis in rows)] + (
            [(Shard(0), Shard(0), Shard(0))] * members
        )

    def stack(x: Any, u: Any, b: Any, reflections: int, apply_abs: bool, dim: int = -1) -> list[Rule]:
        return [
            ([rows, signs], [rows, layers, None if b is None else layers, None, None, None])
            for rows, signs, layers in shards(x, u, dim)
        ]

    def stack_backward(
        grad_y: Any, x: Any, y: Any, signs: Any, u: Any, b: Any, reflections: int, apply_abs: bool, dim: int = -1
    ) -> list[Rule]:
        found = []
        for rows, bits, layers in shards(x, u, dim):
            gradient = total if rows != layers else layers
            found.append(
                (
                    [rows, gradient, every if b is None else gradient],
                    [rows, rows, rows, bits, layers, None if b is None else layers, None, None, None],
                )
            )
        return found

    register_sharding(torch.ops.hannet.stack.default)(stack)
    register_sharding(torch.ops.hannet.stack_backward.default)(stack_backward)
