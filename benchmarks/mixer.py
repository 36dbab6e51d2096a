"""How fast are Han-Mixer blocks on the CPU, against Mixer blocks, and how much memory does training them take?

    python benchmarks/mixer.py [--only speed,axes,memory] [--batches 256,32] [--blocks 16] [--memory-batch 64]
                               [--tokens 64] [--channels 512] [--threads 2] [--out hannet-results/benchmarks]

Candidates are timed in turn, round after round, so that a busy machine slows all of them; medians and their ratios are
printed and appended to a record. Takes about ten minutes, most of it Mixer blocks. Run it with nothing else running.
"""

import argparse
from functools import partial, update_wrapper

import torch
from torch import Tensor, nn

import hannet
from hannet.models.han_mixer import HanMixerBlock, HanMixerBlocks, MixerBlock
from hannet.ops import reference
from stack import ask, compare, forward_backward, parser_of, peak, steps_of


class EagerStack(hannet.HanStack):
    """A HanStack computed layer by layer, as the equation is written in PyTorch."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., features), or (..., features, n) -> the same."""
        return reference.stack(x, self.u, self.b, dim=self.dim)


def eager(net: nn.Module) -> nn.Module:
    """The same network with EagerStack in the place of HanStack."""
    for module in net.modules():
        if type(module) is hannet.HanStack:
            module.__class__ = EagerStack
    return net


def speed(args: argparse.Namespace) -> dict[str, float]:
    """Forward and backward of Han-Mixer blocks against as many Mixer blocks and against eager Han-layers; milliseconds and ratios."""
    found = {}
    print(f"  {'batch':>8} {'Han ms':>10} {'Mixer ms':>10} {'eager ms':>10} {'Mixer/Han':>10} {'eager/Han':>10}")
    for batch in args.batches:
        x = torch.randn(batch, args.tokens, args.channels, requires_grad=True)
        gradient = torch.randn_like(x)
        kinds = {"Han": (HanMixerBlocks, HanMixerBlock), "Mixer": (nn.Sequential, MixerBlock)}
        kinds["eager"] = kinds["Han"]
        blocks = {
            name: run(*(block(args.tokens, args.channels) for _ in range(args.blocks)))
            for name, (run, block) in kinds.items()
        }
        eager(blocks["eager"])
        times = compare({name: forward_backward(net, x, gradient) for name, net in blocks.items()})
        ratios = [times[name] / times["Han"] for name in ("Mixer", "eager")]
        print(
            f"  {batch:>8}"
            + "".join(f" {1000 * t:>10.1f}" for t in times.values())
            + "".join(f" {r:>10.2f}" for r in ratios)
        )
        found |= {f"batch {batch}: {name}, ms": 1000 * t for name, t in times.items()}
        found |= {f"batch {batch}: {name} over Han": r for name, r in zip(("Mixer", "eager"), ratios, strict=True)}
    return found


def axes(args: argparse.Namespace) -> dict[str, float]:
    """Two Han-layers over tokens, forward and backward, where tokens stand, against two transposed copies around the same."""
    found = {}
    there, last = hannet.HanStack(args.tokens, 2, dim=-2), hannet.HanStack(args.tokens, 2)
    for batch in args.batches:
        x = torch.randn(batch, args.tokens, args.channels, requires_grad=True)
        nets = {"in place": there, "copied": Copied(last)}
        times = compare({name: forward_backward(net, x, torch.randn_like(x)) for name, net in nets.items()})
        found[f"batch {batch}: copied over in place"] = times["copied"] / times["in place"]
    return found


class Copied(nn.Module):
    """A module over the last dimension, applied to the one before by two transposed copies."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., features, n) -> the same."""
        return self.inner(x.mT.contiguous()).mT.contiguous()


def memory(args: argparse.Namespace) -> dict[str, float]:
    """Peak memory of a training step of MLP(0) + Han(16), less that of the idle process, against eager Han-layers; in new processes."""
    options = (f"--memory-batch={args.memory_batch}", f"--blocks={args.blocks}", f"--threads={args.threads}")
    peaks = steps_of(__file__, ["HanMixer", "eager"], *options)
    return {"HanMixer, MiB": peaks["HanMixer"] / 1024, "eager over HanMixer": peaks["eager"] / peaks["HanMixer"]}


def step_of(kind: str, args: argparse.Namespace) -> None:
    """Prints the KiB by which one training step raises the peak memory of this process."""
    torch.set_num_threads(args.threads)

    def built(*sizes: object, blocks: int) -> nn.Module:
        with torch.device("meta"):  # orthogonal weights would take more memory to draw than a small batch to train
            net = hannet.HanMixer(32, 10, *sizes, han_blocks=blocks)
        for tensor in (*net.to_empty(device="cpu").parameters(), *net.buffers()):
            tensor.detach().copy_(torch.randn(tensor.shape) * 0.02)
        return eager(net) if kind == "eager" else net

    def run(net: nn.Module, batch: int) -> None:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6)
        nn.functional.cross_entropy(net(torch.randn(batch, 3, 32, 32)), torch.zeros(batch, dtype=torch.long)).backward()
        optimizer.step()

    run(built((4, 4, 4, 4, 16), blocks=1), 2)  # everything loaded and compiled
    net = built(blocks=args.blocks)
    before = peak()
    run(net, args.memory_batch)
    print(peak() - before)


QUESTIONS = {q.__name__: q for q in (speed, axes, memory)}


def main() -> None:
    """Ask all questions, or some."""
    parser = parser_of(__doc__, QUESTIONS)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[256, 32])
    for name, value in (("blocks", 16), ("tokens", 64), ("channels", 512), ("memory-batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.step_of:
        return step_of(args.step_of, args)
    questions = {name: update_wrapper(partial(question, args), question) for name, question in QUESTIONS.items()}
    config = {name: getattr(args, name) for name in ("batches", "blocks", "tokens", "channels", "memory_batch")}
    return ask("mixer", questions, args, **config)


if __name__ == "__main__":
    main()
