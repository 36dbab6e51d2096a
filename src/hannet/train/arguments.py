"""The arguments of `train`, checked against each other."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .recipe import Recipe

_OWN = ("lr", "weight_decay", "orthogonal", "optimizer", "momentum")  # what recipes trained together may differ in


def check_arguments(
    networks: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    x: Tensor,
    y: Tensor,
    rows: Tensor | None,
    weights: Tensor | None,
) -> Recipe:
    """What the recipes have in common. Raises ValueError where the arguments of `train` do not go together."""
    if not len(networks) == len(recipes) == len(seeds) > 0:
        raise ValueError(
            f"give as many recipes and seeds as networks: {len(networks)}, {len(recipes)} and {len(seeds)} came"
        )
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"x and y must be (n, in) and (n, out), got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must have the same rows, at least one: {len(x)} and {len(y)} came")
    if rows is not None:
        _check_rows(rows, len(networks), len(x))
    if weights is not None and weights.shape != x.shape[:1]:
        raise ValueError(f"weights must be ({len(x)},), one a row of x, got {tuple(weights.shape)}")
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    devices = {t.device: None for t in (*tensors, x, y, *([] if weights is None else [weights]))}
    if len(devices) > 1:
        raise ValueError(f"networks, x, y and weights must be on one device, got {', '.join(map(str, devices))}")
    return _common(networks, recipes)


def _check_rows(rows: Tensor, members: int, n: int) -> None:
    if rows.dim() != 2 or len(rows) != members or not rows.numel():
        raise ValueError(f"rows must be (members, at least one row), got {tuple(rows.shape)} for {members} members")
    if not (rows.dtype == torch.int64 and rows.min() >= 0 and rows.max() < n):
        raise ValueError(f"rows must be int64 from 0 to {n - 1}, got {rows.dtype} from {rows.min()} to {rows.max()}")


def _common(networks: Sequence[nn.Module], recipes: Sequence[Recipe]) -> Recipe:
    trained = [[name for name, p in network.named_parameters() if p.requires_grad] for network in networks]
    if not trained[0] or any(names != trained[0] for names in trained):
        raise ValueError("networks trained together must have parameters that require gradients, the same in each")
    first = next((name for name, _ in networks[0].named_parameters()), "")
    if recipes[0].lasso and not first.endswith("weight"):
        raise ValueError("lasso needs a network whose first parameter is the weight of a Linear")
    defaults = {name: getattr(Recipe, name) for name in _OWN}
    common = {replace(recipe, **defaults) for recipe in recipes}
    if len(common) > 1:
        raise ValueError(f"recipes trained together may differ in {', '.join(_OWN)} only")
    recipe = common.pop()
    if len(networks) > 1 and (recipe.ema or recipe.precision != "fp32"):
        raise ValueError(f"with ema or another precision than fp32 one network trains at a time, not {len(networks)}")
    return recipe
