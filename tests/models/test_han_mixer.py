import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from hannet import HanMixer, HanStack
from hannet.models.han_mixer import HanMixerBlock, HanMixerBlocks, MixerBlock, Stem
from hannet.ops.cpu import launch

WIDE = (128, 256, 512, 1024, 1024)


def small(**options):
    return HanMixer(**{"image_size": 16, "num_classes": 5, "channels": (4, 6, 8, 8, 20)} | options)


def millions(model, digits):
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.{digits}f}"


@pytest.mark.parametrize(
    ("mlp", "han", "expected"),
    [
        (0, 0, "1.82"),
        (2, 0, "2.89"),
        (4, 0, "3.96"),
        (0, 16, "1.86"),
        (1, 16, "2.39"),
        (2, 16, "2.93"),
        (4, 16, "4.00"),
    ],
)
def test_parameters_of_table_12_in_millions(mlp, han, expected):
    with torch.device("meta"):
        assert millions(HanMixer(32, 10, mlp_blocks=mlp, han_blocks=han), 2) == expected


@pytest.mark.parametrize(
    ("mlp", "han", "expected"),
    # The paper prints 27.2 for 8 Mixer blocks. Its other rows fix what a block has: 8 of them make 25.2, and 9 make 27.3.
    [(0, 0, "8.28"), (4, 0, "16.7"), (8, 0, "25.2"), (9, 0, "27.3"), (0, 16, "8.35"), (4, 16, "16.8")],
)
def test_parameters_of_table_12_in_millions_on_imagenet(mlp, han, expected):
    with torch.device("meta"):
        model = HanMixer(32, 1000, WIDE, mlp, han)
    assert millions(model, 2 if expected.startswith("8") else 1) == expected


def test_tokens_are_those_of_table_10():
    with torch.device("meta"):
        for size, strides, tokens in ((32, (1, 2, 1, 2), 64), (96, (1, 2, 2, 2), 144)):
            block = HanMixer(size, 10, strides=strides).han_blocks[0]
            assert block.tokens.u.shape == (2, tokens)
            assert block.channels.u.shape == (2, 512)


def test_a_mixer_block_is_equations_12_and_13():
    block, x = MixerBlock(6, 10).double(), torch.randn(3, 6, 10, dtype=torch.double)
    with torch.no_grad():
        for norm in (block.token_norm, block.channel_norm):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()

    def plainly(X):
        N = F.layer_norm(X, (10,), block.token_norm.weight, block.token_norm.bias)
        hidden = F.gelu(block.token_in.weight @ N + block.token_in.bias[:, None])
        X = X + block.token_out.weight @ hidden + block.token_out.bias[:, None]
        N = F.layer_norm(X, (10,), block.channel_norm.weight, block.channel_norm.bias)
        hidden = F.gelu(N @ block.channel_in.weight.T + block.channel_in.bias)
        return X + hidden @ block.channel_out.weight.T + block.channel_out.bias

    assert_close(block(x), torch.stack([plainly(X) for X in x]))


def test_an_exported_mixer_block_takes_any_number_of_images():
    block = MixerBlock(4, 6)
    sizes = ({0: torch.export.Dim("images")},)
    exported = torch.export.export(block, (torch.randn(2, 4, 6),), dynamic_shapes=sizes).module()
    for count in (1, 17):
        x = torch.randn(count, 4, 6)
        assert_close(exported(x), block(x))


def reflect(X, u):
    return X - 2 * torch.outer(u, u @ X) / (u @ u)


def test_a_han_mixer_block_is_equation_14():
    block, x = HanMixerBlock(6, 20).double(), torch.randn(3, 6, 20, dtype=torch.double)

    def mixed(X, stack):
        for u, b in zip(stack.u, stack.b, strict=True):
            X = (reflect(X, u) + b[:, None]).abs()
        return X

    assert_close(block(x), torch.stack([mixed(mixed(X, block.tokens).T, block.channels).T for X in x]))


def test_a_han_mixer_block_is_an_isometry_of_small_changes():
    block = HanMixerBlock(4, 16).double()
    x, slope = torch.randn(2, 4, 16, dtype=torch.double, requires_grad=True), torch.randn(2, 4, 16, dtype=torch.double)
    (gradient,) = torch.autograd.grad(block(x), x, slope)
    assert_close(gradient.norm(), slope.norm())


@pytest.mark.parametrize("run", [nn.Sequential, HanMixerBlocks])
def test_no_half_of_a_block_copies_its_input(monkeypatch, run):
    """Every kernel reads what the one before wrote, forwards and back; the first reads the stem's output."""
    seen = []
    for name in ("forward", "backward"):
        kernel = getattr(launch, name)

        def watched(*arguments, kernel=kernel):
            result = kernel(*arguments)
            seen.append((arguments[0].data_ptr(), result[0].data_ptr()))
            return result

        monkeypatch.setattr(launch, name, watched)
    x = torch.randn(2, 4, 32, requires_grad=True)
    y = run(HanMixerBlock(4, 32), HanMixerBlock(4, 32))(x)
    y.backward(slope := torch.randn_like(y))
    assert len(seen) == 8
    assert seen[0][0] == x.data_ptr()
    assert seen[4][0] == slope.data_ptr()
    for first, second in zip(seen[:3] + seen[4:7], seen[1:4] + seen[5:], strict=True):
        assert first[1] == second[0]


def test_a_run_of_blocks_is_one_block_after_another():
    blocks = HanMixerBlocks(*(HanMixerBlock(6, 20) for _ in range(3))).double()
    x, slope = torch.randn(3, 6, 20, dtype=torch.double, requires_grad=True), torch.randn(3, 6, 20, dtype=torch.double)
    leaves = [x, *blocks.parameters()]
    apart = torch.autograd.grad(nn.Sequential(*blocks)(x), leaves, slope)
    assert_close(torch.autograd.grad(blocks(x), leaves, slope), apart)
    seen = []
    blocks[1].tokens.register_forward_hook(lambda *_: seen.append(1))  # hooks hear what they asked for
    assert_close(torch.autograd.grad(blocks(x), leaves, slope), apart)
    assert seen == [1]
    assert HanMixerBlocks()(x) is x
    twice = HanMixerBlocks(blocks[0], blocks[0])
    assert_close(twice(x), blocks[0](blocks[0](x)))


def test_the_stem_is_four_convolutions_with_norm_and_relu_and_one_without():
    stem = Stem(3, (4, 5, 6, 7, 8), (1, 2, 1, 2))
    assert [type(m).__name__ for m in stem] == ["Conv2d", "BatchNorm2d", "ReLU"] * 4 + ["Conv2d"]
    convolutions = [m for m in stem if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
        (4, 3, 1), (5, 3, 2), (6, 3, 1), (7, 3, 2), (8, 1, 1)
    ]  # fmt: skip
    x = torch.randn(2, 3, 12, 12)
    stem.eval()
    assert_close(stem(x), nn.Sequential(*stem)(x).permute(0, 2, 3, 1).reshape(2, 9, 8))


@pytest.mark.parametrize("mlp", [0, 1])
@pytest.mark.parametrize("han", [0, 2])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_shapes_and_gradients_of_every_parameter(mlp, han, rows):
    net = small(mlp_blocks=mlp, han_blocks=han)
    y = net(torch.randn(rows, 3, 16, 16))
    assert y.shape == (rows, 5)
    y.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert rows < 2 or parameter.grad.abs().max() > 0, name


def test_starts_as_the_authors_do():
    net = small(mlp_blocks=1, han_blocks=1)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            W = module.weight.flatten(1)
            W = W if W.shape[0] <= W.shape[1] else W.T
            assert_close(W @ W.T, torch.eye(len(W)), rtol=0, atol=1e-5)
        elif isinstance(module, HanStack):
            assert_close(module.u.norm(dim=-1), torch.ones(2))


def test_evaluation_does_not_see_the_batch_and_training_does():
    net, x = small(mlp_blocks=1, han_blocks=2), torch.randn(6, 3, 16, 16)
    assert not torch.allclose(net(x)[:2], net(x[:2]), atol=1e-3)
    net.eval()
    assert_close(net(x)[:2], net(x[:2]))


def test_channels_last_gives_the_same():
    net, x = small(mlp_blocks=1, han_blocks=2).double(), torch.randn(3, 3, 16, 16, dtype=torch.double)
    plain = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    y = copy.deepcopy(net).to(memory_format=torch.channels_last)
    last = torch.autograd.grad(y(x.to(memory_format=torch.channels_last)).square().sum(), list(y.parameters()))
    for one, other in zip(plain, last, strict=True):
        assert_close(one, other)


def test_autocast_stays_near_single_precision():
    net, x = small(mlp_blocks=1, han_blocks=2).eval(), torch.randn(8, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.bfloat16
    expected = net(x)
    assert (y - expected).norm() < 0.05 * expected.norm()
    y.float().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters())


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    net, x = small(mlp_blocks=1, han_blocks=2).eval(), torch.randn(3, 3, 16, 16)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), net(x))
    net(x).sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    compiled(x).sum().backward()
    assert_close([p.grad for p in net.parameters()], expected)


def test_saved_and_loaded_models_are_equal(tmp_path):
    net, x = small(mlp_blocks=1, han_blocks=2, strides=(1, 2, 2, 2), in_channels=1), torch.randn(5, 1, 16, 16)
    net(x)  # moves the averages of BatchNorm
    net.save_pretrained(tmp_path)
    loaded = HanMixer.from_pretrained(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(x), net.eval()(x))
    assert repr(loaded) == repr(net)
    card = (tmp_path / "README.md").read_text()
    for said in (
        "license: mit", "pipeline_tag: image-classification", "Mixer blocks: 1, Han-Mixer blocks: 2", "5 classes",
        f"{sum(p.numel() for p in net.parameters()):,} parameters", "(n, 1, 16, 16)", "HanMixer.from_pretrained",
        "@article{yu2024lightweight",
    ):  # fmt: skip
        assert said in card, said


BAD = {
    "image_size must be a positive integer, got 0": lambda: small(image_size=0),
    "num_classes must be a positive integer, got -1": lambda: small(num_classes=-1),
    "in_channels must be a positive integer, got 1.5": lambda: small(in_channels=1.5),
    "mlp_blocks must be an integer, at least 0, got -1": lambda: small(mlp_blocks=-1),
    "han_blocks must be an integer, at least 0, got True": lambda: small(han_blocks=True),
    "channels must be 5 positive integers, got (4, 6, 8)": lambda: small(channels=(4, 6, 8)),
    "channels must be 5 positive integers, got 64": lambda: small(channels=64),
    "strides must be 4 positive integers, got (1, 2, 0, 2)": lambda: small(strides=(1, 2, 0, 2)),
    "image_size must be a multiple of 4, the product of the strides, got 18": lambda: small(image_size=18),
    "images must be (n, 3, 16, 16), got (2, 3, 16, 17)": lambda: small()(torch.ones(2, 3, 16, 17)),
    "images must be (n, 3, 16, 16), got (2, 1, 16, 16)": lambda: small()(torch.ones(2, 1, 16, 16)),
    "images must be (n, 3, 16, 16), got (3, 16, 16)": lambda: small()(torch.ones(3, 16, 16)),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_sizes_are_named_in_one_sentence(sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011  compared below, to the letter
        BAD[sentence]()
    assert str(error.value) == sentence


def test_images_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"images must be floating point, got torch\.uint8"):
        small()(torch.ones(2, 3, 16, 16, dtype=torch.uint8))


CIFAR = Path(os.environ.get("HANNET_DATA", "/nonexistent")) / "cifar-10-batches-bin" / "data_batch_1.bin"


@pytest.mark.skipif(not CIFAR.exists(), reason="needs HANNET_DATA with cifar-10-batches-bin")
@pytest.mark.parametrize("mlp", [0, 1])
def test_learns_a_batch_of_cifar10(mlp):
    rows = torch.from_numpy(np.fromfile(CIFAR, np.uint8, 64 * 3073).reshape(64, 3073))
    x, labels = rows[:, 1:].view(64, 3, 32, 32).float() / 127.5 - 1, rows[:, 0].long()
    net = HanMixer(32, 10, (8, 8, 16, 16, 32), mlp, 2)
    optimizer = torch.optim.AdamW(net.parameters(), 0.003)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
