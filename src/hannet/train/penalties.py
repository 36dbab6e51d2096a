"""Penalties on the weights of members, by what they add to the gradients."""

import torch
from torch import Tensor


def orthogonal_gradient(weight: Tensor, strengths: Tensor) -> Tensor:
    """4 strength (W W^T - I) W, by the smaller of the two Gram matrices: the other gives the same."""
    tall = weight.shape[1] > weight.shape[2]
    gram = weight.mT @ weight if tall else weight @ weight.mT
    gram.diagonal(dim1=1, dim2=2).sub_(1)
    gram *= 4 * strengths[:, None, None]
    return weight @ gram if tall else gram @ weight


@torch.no_grad()
def add_lasso(gradient: Tensor, weight: Tensor, strength: float) -> None:
    """Add the gradient of a group lasso on the rows of a weight."""
    norms = weight.norm(dim=-1, keepdim=True).clamp_min(1e-3)  # a row near 0 rests there instead of jumping over it
    gradient.add_(weight / norms, alpha=strength)
