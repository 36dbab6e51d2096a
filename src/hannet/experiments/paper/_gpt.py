"""A small GPT over characters, feed-forwards of several kinds for it, and its training."""

import math
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.text import shakespeare
from ...models.han_block import HanBlock
from ...models.registry import build_model, register
from ...reporting.progress import OnProgress
from ...train.batches import seed_of
from ...train.callbacks import ProgressReporter
from ...train.distributed import SingleProcess
from ...train.module_backend import ModuleBackend
from ...train.optimizers import build_torch_optimizer
from ...train.recipe import Recipe
from ...train.trainer import Trainer

WIDTH, BLOCKS, HEADS, CONTEXT, BATCH, SYMBOLS = 128, 4, 4, 64, 12, 65


class BlockDiagonal(nn.Module):
    """Linear maps of neighbouring features, without bias.  x: (..., in) -> (..., out), where outputs of different maps are neighbours."""

    def __init__(self, in_features: int, out_features: int, maps: int):
        super().__init__()
        bound = 1 / math.sqrt(in_features // maps)
        self.weight = nn.Parameter(torch.empty(maps, in_features // maps, out_features // maps).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        maps, size, _ = self.weight.shape
        parts = x.reshape(-1, maps, size).transpose(0, 1)
        return torch.bmm(parts, self.weight).permute(1, 2, 0).reshape(*x.shape[:-1], -1)


class Bias(nn.Module):
    """x + b."""

    def __init__(self, features: int, before: int):
        super().__init__()
        bound = 1 / math.sqrt(before)
        self.b = nn.Parameter(torch.empty(features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., features)."""
        return x + self.b


def _linear(form: str, size: int, first: int, last: int) -> nn.Module:
    """A linear map with a bias: "dense"; "low-rank" of rank `size`; "grouped" or "monarch" with so many maps."""
    match form:
        case "low-rank":
            return nn.Sequential(nn.Linear(first, size, bias=False), nn.Linear(size, last))
        case "grouped":
            return nn.Sequential(BlockDiagonal(first, last, size), Bias(last, first // size))
        case "monarch":
            inner = min(first, last)
            factors = BlockDiagonal(first, inner, size), BlockDiagonal(inner, last, size)
            return nn.Sequential(*factors, Bias(last, inner // size))
        case "dense":
            return nn.Linear(first, last)
    raise ValueError(f"form must be none, HanBlock, dense, low-rank, grouped or monarch, got {form!r}")


def build_feedforward(form: str, hidden: int = 0, size: int = 0, **options: Any) -> nn.Module | None:
    """The feed-forward of a form: "none", "HanBlock" with its options, or two linear maps of a form with GELU between."""
    if form == "none":
        return None
    if form == "HanBlock":
        return HanBlock(WIDTH, hidden, **options)
    return nn.Sequential(_linear(form, size, WIDTH, hidden), nn.GELU(), _linear(form, size, hidden, WIDTH))


class Attention(nn.Module):
    """Causal self-attention.  x: (batch, time, width), as returned."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward, each behind a LayerNorm and a skip connection."""

    def __init__(self, feedforward: nn.Module | None):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.feedforward = None
        if feedforward is not None:
            self.feedforward_norm, self.feedforward = nn.LayerNorm(WIDTH), feedforward

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, width), as returned."""
        x = x + self.attention(self.norm(x))
        return x if self.feedforward is None else x + self.feedforward(self.feedforward_norm(x))


@register("GPT")
class GPT(nn.Module):
    """Logits of the next character.  x: (batch, time), int64 -> (batch * time, symbols)."""

    def __init__(self, symbols: int, feedforward: Mapping[str, Any]):
        super().__init__()
        self.symbol, self.place = nn.Embedding(symbols, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        for embedding in (self.symbol, self.place):
            nn.init.normal_(embedding.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(build_feedforward(**feedforward)) for _ in range(BLOCKS)))
        self.norm, self.logits = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, symbols)

    def feedforwards(self) -> nn.ModuleList:
        """Those of its blocks."""
        return nn.ModuleList(block.feedforward for block in self.blocks if block.feedforward is not None)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.symbol(x) + self.place.weight[: x.shape[1]]
        return self.logits(self.norm(self.blocks(embedded))).flatten(0, 1)


def recipe(lr: float, steps: int) -> Recipe:
    """Adam with warm-up and cosine, the same for all but the rate."""
    return Recipe(
        lr=lr, iterations=steps, batch=BATCH, optimizer="adam", schedule="cosine", warmup=0.05, loss="cross_entropy"
    )


@cache
def characters() -> Tensor:
    """The text as positions in its sorted characters.  (n,), int64."""
    text = shakespeare()
    known = {character: place for place, character in enumerate(sorted(set(text)))}
    return torch.tensor([known[character] for character in text])


def parts(data: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """The characters that train, and those right behind them that validate, as shares of the text say."""
    text = characters()
    first, last = (round(len(text) * share) for share in (data["train"], data["train"] + data["validation"]))
    return text[:first], text[first:last]


class Windows:
    """Batches of random windows of the text and of the characters that follow; seed and step fix them."""

    def __init__(self, text: Tensor, seed: int, per_epoch: int):
        self.text, self.seed, self.per_epoch = text, seed, per_epoch

    def at(self, epoch: int, step: int, /) -> list[Tensor]:
        """(batch, context) and (batch * context,)."""
        drawn = torch.Generator().manual_seed(seed_of(self.seed, epoch, step))
        starts = torch.randint(len(self.text) - CONTEXT, (BATCH, 1), generator=drawn)
        rows = self.text[starts + torch.arange(CONTEXT + 1)]
        return [rows[:, :-1], rows[:, 1:].flatten()]

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: windows follow from the seed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Continue after so many steps."""


def train(network: nn.Module, recipe: Recipe, seed: int, text: Tensor, label: str, on_progress: OnProgress) -> float:
    """Trains a GPT in place. Returns the seconds of processor time."""
    windows = Windows(text, seed, min(250, recipe.iterations))
    backend = ModuleBackend(network, recipe, seed, windows, SingleProcess(torch.device("cpu")))
    backend.optimizer = build_torch_optimizer(network.parameters(), recipe, fused=True)
    began = time.process_time()
    Trainer(backend, [ProgressReporter(on_progress, label)]).run()
    return time.process_time() - began


@torch.no_grad()
def loss(network: nn.Module, text: Tensor, rows: int = 64) -> float:
    """Mean cross entropy over all characters, in windows side by side."""
    count = (len(text) - 1) // CONTEXT
    x, y = (part[: count * CONTEXT].view(count, CONTEXT) for part in (text[:-1], text[1:]))
    pairs = zip(x.split(rows), y.split(rows), strict=True)
    return float(sum(F.cross_entropy(network(a), b.flatten(), reduction="sum") for a, b in pairs) / y.numel())


def build(network: Mapping[str, Any], seed: int) -> GPT:
    """The GPT of a config, its start fixed by the seed."""
    return cast("GPT", build_model(**network, seed=seed, symbols=SYMBOLS))


def size(module: nn.Module) -> int:
    """The numbers that a module learns."""
    return sum(p.numel() for p in module.parameters())
