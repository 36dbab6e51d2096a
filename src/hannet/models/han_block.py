"""The Han-block that takes the place of MobileViT's feed-forward (section 5.4 of the paper)."""

from torch import Tensor, nn

from ..layers.han import HanLayer, Householder


class HanBlock(nn.Module):
    """H(u2)|H(u1) x + b1| + b2: no ABS around the last map, no skip connection, no normalisation.  x: (..., dim), as returned.

    So it is 1-Lipschitz. Form and start are those of the authors' published code; only without a LayerNorm do the counts of
    Table 14 come out.

    Args:
        dim: the number of features.

    Raises:
        ValueError: for a dim below 1, and in `forward` for inputs that do not fit.

    >>> sum(p.numel() for p in HanBlock(64).parameters())
    256
    """

    def __init__(self, dim: int):
        super().__init__()
        self.fold, self.reflect = HanLayer(dim), Householder(dim, bias=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """u: kaiming_uniform_ with a = sqrt(5) of a column, so uniform in +-1; b: uniform in +-1/sqrt(dim). Source: the authors' code."""
        for layer in (self.fold, self.reflect):
            layer.reset_parameters()
            nn.init.kaiming_uniform_(layer.u[:, None], a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.reflect(self.fold(x))
