"""MobileViT (Mehta and Rastegari, 2022), with its feed-forward blocks or with Han-blocks (section 5.4 of the paper)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.validation import require_images, require_positive
from .han_block import HanBlock
from .hub import PretrainedMixin, describe_classifier


class Size(NamedTuple):
    """Widths of the three transformers, channels of the convolutions, expansion of the inverted residuals."""

    dims: tuple[int, int, int]
    channels: tuple[int, ...]
    expansion: int


SIZES = {
    "xxs": Size((64, 80, 96), (16, 16, 24, 48, 64, 80, 320), 2),
    "xs": Size((96, 120, 144), (16, 32, 48, 64, 80, 96, 384), 4),
}
BLOCKS = ("mlp", "han")
_DEPTHS, _HIDDEN = (2, 4, 3), (2, 4, 4)  # of the transformers; hidden width of their feed-forward over their width
_HEADS, _HEAD_WIDTH, _PATCH = 4, 8, 2
_STEP = 64  # strides of 32 in all, and patches of 2x2 at the last


def _convolution(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), *[nn.SiLU()] * act)


class InvertedResidual(nn.Module):
    """1x1 up by `expansion`, 3x3 a channel, 1x1 down (MobileNetV2); x is added where the shape stays.  (n, into, h, w)."""

    def __init__(self, into: int, out: int, stride: int, expansion: int):
        super().__init__()
        hidden = into * expansion
        self.skip = stride == 1 and into == out
        self.layers = nn.Sequential(
            _convolution(into, hidden, 1),
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            _convolution(hidden, out, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


class Attention(nn.Module):
    """x + W softmax(Q K^T / sqrt(8)) V of LN(x), four heads.  x: (..., n, dim), as returned."""

    def __init__(self, dim: int):
        super().__init__()
        inner = _HEADS * _HEAD_WIDTH
        self.norm, self.qkv, self.out = nn.LayerNorm(dim), nn.Linear(dim, 3 * inner, bias=False), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, _HEADS, _HEAD_WIDTH)).movedim(-3, 0).transpose(-2, -3)
        if torch.compiler.is_exporting() and x.dim() > 3:
            # ONNX has it of four dimensions at most. Elsewhere five stay: of four, PyTorch picks a kernel without second derivatives.
            q, k, v = (part.flatten(0, -4) for part in (q, k, v))
        heads = F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        return x + self.out(heads.view(*x.shape[:-1], _HEADS * _HEAD_WIDTH))


class FeedForward(nn.Module):
    """x + W2 swish(W1 LN(x)).  x: (..., dim), as returned. Weights start as PyTorch's own."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.up(self.norm(x))))


class MobileViTBlock(nn.Module):
    """Convolutions into `dim`, a transformer over the pixels at the same place of each patch, convolutions back over both.

    x: (n, channels, h, w), h and w even, as returned.
    """

    def __init__(self, dim: int, depth: int, channels: int, hidden: int, block: str):
        super().__init__()
        self.local = nn.Sequential(_convolution(channels, channels, 3), _convolution(channels, dim, 1))
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [Attention(dim), FeedForward(dim, hidden) if block == "mlp" else HanBlock(dim)]
        self.transformer = nn.Sequential(*layers)
        self.back, self.fuse = _convolution(dim, channels, 1), _convolution(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2] // _PATCH, x.shape[3] // _PATCH
        y = self.local(x).unflatten(3, (columns, _PATCH)).unflatten(2, (rows, _PATCH))
        y = y.permute(0, 3, 5, 2, 4, 1).flatten(3, 4).flatten(1, 2)  # (n, place in the patch, patch, dim)
        y = self.transformer(y).unflatten(2, (rows, columns)).unflatten(1, (_PATCH, _PATCH))
        y = y.permute(0, 5, 3, 1, 4, 2).flatten(4, 5).flatten(2, 3)
        return self.fuse(torch.cat([x, self.back(y)], 1))


class MobileViT(nn.Module, PretrainedMixin, tags=["mobilevit"], pipeline_tag="image-classification"):
    """MobileViT with feed-forward blocks or with Han-blocks.  x: (n, 3, h, w), h and w multiples of 64 -> (n, num_classes).

    The paper resizes all images to 256x256. Weights start as PyTorch's own, those of Han-blocks as HanBlock says.

    Args:
        num_classes: scores for each image.
        size: "xxs" or "xs".
        block: of the transformers: "mlp", two dense layers, or "han", a HanBlock.

    Raises:
        ValueError: for other sizes and blocks, and in `forward` for images of another shape.
        TypeError: in `forward` for images of integers.

    >>> for block in ("mlp", "han"):
    ...     print(f"{sum(p.numel() for p in MobileViT(10, 'xxs', block).parameters()) / 1e6:.2f}M")
    1.01M
    0.55M
    """

    def __init__(self, num_classes: int, size: str = "xxs", block: str = "mlp"):
        require_positive(num_classes=num_classes)
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        if block not in BLOCKS:
            raise ValueError(f"block must be one of {', '.join(BLOCKS)}, got {block!r}")
        super().__init__()
        self.size, self.block = size, block
        dims, (first, second, third, fourth, fifth, sixth, last), expansion = SIZES[size]
        layers: list[nn.Module] = [
            _convolution(3, first, 3, stride=2),
            InvertedResidual(first, second, 1, expansion),
            InvertedResidual(second, third, 2, expansion),
            InvertedResidual(third, third, 1, expansion),
            InvertedResidual(third, third, 1, expansion),
        ]
        stages = zip((third, fourth, fifth), (fourth, fifth, sixth), dims, _DEPTHS, _HIDDEN, strict=True)
        for before, after, dim, depth, factor in stages:
            layers += [
                InvertedResidual(before, after, 2, expansion),
                MobileViTBlock(dim, depth, after, factor * dim, block),
            ]
        self.layers = nn.Sequential(*layers, _convolution(sixth, last, 1))
        self.head = nn.Linear(last, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        fits = x.shape[1:2] == (3,) and all(size % _STEP == 0 < size for size in x.shape[2:])
        require_images(x, f"(n, 3, h, w) with h and w multiples of {_STEP}", fits)
        return self.head(self.layers(x).mean((2, 3)))

    def card_details(self) -> dict[str, str]:
        kind = {"mlp": "feed-forward blocks of two dense layers", "han": "Han-blocks in place of dense layers"}
        what = f"MobileViT-{self.size.upper()} whose transformers have {kind[self.block]} (block {self.block})."
        image = f"3, h, w), h and w multiples of {_STEP}"
        return describe_classifier(what, self.head.out_features, image)
