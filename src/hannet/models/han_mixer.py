"""MLP-Mixers and Han-Mixers behind a convolutional stem (section 5.3 of the paper)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..functional import han_stacks
from ..layers.han import HanStack
from ..layers.validation import require_images, require_integers, require_positive
from ..ops.torch_internals import has_hooks
from .hub import PretrainedMixin, describe_classifier


class Stem(nn.Sequential):
    """Four 3x3 convolutions with BatchNorm and ReLU, then a 1x1 convolution.  x: (n, in, h, w) -> (n, tokens, channels[-1]).

    One token a pixel that the strides leave.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[int]):
        *inner, last = channels
        layers: list[nn.Module] = []
        for before, after, stride in zip([in_channels, *inner], inner, strides, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(inner[-1], last, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).mT


class MixerBlock(nn.Module):
    """X + W2 gelu(W1 LN(X)) over tokens (Eq. 12), then the same over channels (Eq. 13).  x: (n, tokens, channels), as returned.

    The hidden widths are the numbers of tokens and of channels.

    >>> MixerBlock(tokens=4, channels=8)(torch.randn(2, 4, 8)).shape
    torch.Size([2, 4, 8])
    """

    def __init__(self, tokens: int, channels: int):
        require_positive(tokens=tokens, channels=channels)
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.token_in, self.token_out = nn.Linear(tokens, tokens), nn.Linear(tokens, tokens)
        self.channel_in, self.channel_out = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + _over_tokens(self.token_out, F.gelu(_over_tokens(self.token_in, self.token_norm(x))))
        return x + self.channel_out(F.gelu(self.channel_in(self.channel_norm(x))))


def _over_tokens(linear: nn.Linear, x: Tensor) -> Tensor:
    """W X + b, without a transposed copy of X.  x: (n, tokens, channels), as returned."""
    tokens = linear.in_features  # and x.shape[0], not len(x): torch.export would fix the number of images
    return torch.baddbmm(linear.bias[:, None], linear.weight.expand(x.shape[0], tokens, tokens), x)


class HanMixerBlock(nn.Module):
    """X <- |H(u2)|H(u1) X + b1| + b2| over tokens, then over channels (Eq. 14).  x: (n, tokens, channels), as returned.

    No skip connection, no normalisation: a block is 1-Lipschitz, and its Jacobian orthogonal. Each half is one call of the
    kernel on the same memory. u and b start as in HanStack (the authors' published code).

    >>> block, x = HanMixerBlock(tokens=4, channels=8), torch.randn(2, 4, 8)
    >>> block(x).shape, sum(p.numel() for p in block.parameters())
    (torch.Size([2, 4, 8]), 48)
    """

    def __init__(self, tokens: int, channels: int):
        super().__init__()
        self.tokens, self.channels = HanStack(tokens, 2, dim=-2), HanStack(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(self.tokens(x))


class HanMixerBlocks(nn.Sequential):
    """Han-Mixer blocks one after another, in one tensor: training keeps no activation between them.  x: (n, tokens, channels).

    >>> blocks, x = HanMixerBlocks(*(HanMixerBlock(4, 32) for _ in range(3))), torch.randn(2, 4, 32)
    >>> torch.allclose(blocks(x), blocks[2](blocks[1](blocks[0](x))), atol=1e-5)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        blocks: list[Any] = list(self)
        if torch.compiler.is_compiling() or not all(map(_is_unchanged, blocks)):
            return super().forward(x)
        stacks = [stack for block in blocks for stack in (block.tokens, block.channels)]
        return han_stacks(x, [(stack.u, stack.b, stack.dim) for stack in stacks])


def _is_unchanged(block: nn.Module) -> bool:
    """A Han-Mixer block as its class makes it, without hooks."""
    stacks = list(block.children())
    unchanged = type(block) is HanMixerBlock and all(type(stack) is HanStack for stack in stacks)
    return unchanged and not any(map(has_hooks, (block, *stacks)))


class HanMixer(nn.Module, PretrainedMixin, tags=["mlp-mixer"], pipeline_tag="image-classification"):
    """Stem, Mixer blocks, Han-Mixer blocks, LayerNorm, mean over tokens, Linear.

    x: (n, in_channels, image_size, image_size) -> (n, num_classes). Weights of convolutions and Linear start orthogonal, the rest
    as in its own modules (the authors' published code).

    Args:
        image_size: pixels a side, a multiple of the product of the strides.
        num_classes: scores for each image.
        channels: of the stem's five convolutions, the last also of the blocks. Default: the paper's for CIFAR and STL10; for
            Downsampled-ImageNet it has 128, 256, 512, 1024, 1024.
        mlp_blocks: how many Mixer blocks, 0 or more.
        han_blocks: how many Han-Mixer blocks, 0 or more.
        strides: of the stem's first four convolutions. Default: the paper's for CIFAR; for STL10 it has 1, 2, 2, 2.
        in_channels: channels of an image.

    Raises:
        ValueError: for sizes that do not fit, and in `forward` for images of another shape.
        TypeError: in `forward` for images of integers.

    >>> model = HanMixer(32, 10)
    >>> f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"
    '1.86M'
    >>> HanMixer(16, 3, channels=(4, 4, 8, 8, 8), mlp_blocks=1, han_blocks=2)(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        mlp_blocks: int = 0,
        han_blocks: int = 16,
        strides: Sequence[int] = (1, 2, 1, 2),
        in_channels: int = 3,
    ):
        require_positive(image_size=image_size, num_classes=num_classes, in_channels=in_channels)
        for name, count in (("mlp_blocks", mlp_blocks), ("han_blocks", han_blocks)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{name} must be an integer, at least 0, got {count!r}")
        channels, strides = require_integers(channels, "channels", 5), require_integers(strides, "strides", 4)
        if image_size % (step := math.prod(strides)):
            raise ValueError(f"image_size must be a multiple of {step}, the product of the strides, got {image_size}")
        super().__init__()
        self.image_size, self.in_channels = image_size, in_channels
        tokens, width = (image_size // step) ** 2, channels[-1]
        self.stem = Stem(in_channels, channels, strides)
        mixers = [MixerBlock(tokens, width) for _ in range(mlp_blocks)]
        self.mlp_blocks = nn.Sequential(*mixers)
        self.han_blocks = HanMixerBlocks(*(HanMixerBlock(tokens, width) for _ in range(han_blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        expected = self.in_channels, self.image_size, self.image_size
        require_images(x, f"(n, {', '.join(map(str, expected))})", x.shape[1:] == expected)
        return self.head(self.norm(self.han_blocks(self.mlp_blocks(self.stem(x)))).mean(1))

    def card_details(self) -> dict[str, str]:
        counts = f"Mixer blocks: {len(self.mlp_blocks)}, Han-Mixer blocks: {len(self.han_blocks)}"
        image = f"{self.in_channels}, {self.image_size}, {self.image_size})"
        return describe_classifier(f"Convolutional stem, {counts}, linear head.", self.head.out_features, image)
