import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from hannet import MobileViT
from hannet.models.mobilevit import Attention, FeedForward, InvertedResidual, MobileViTBlock

KINDS = [("xxs", "mlp"), ("xxs", "han"), ("xs", "mlp"), ("xs", "han")]


@pytest.mark.parametrize(
    ("size", "block", "expected"),
    [("xxs", "mlp", "1.01"), ("xxs", "han", "0.55"), ("xs", "mlp", "2.00"), ("xs", "han", "0.97")],
)
def test_parameters_of_table_14_in_millions(size, block, expected):
    with torch.device("meta"):
        assert f"{sum(p.numel() for p in MobileViT(10, size, block).parameters()) / 1e6:.2f}" == expected


def test_attention_is_softmax_of_scaled_products():
    block, x = Attention(12).double(), torch.randn(2, 4, 5, 12, dtype=torch.double)
    qkv = block.norm(x) @ block.qkv.weight.T
    heads = []
    for head in range(4):
        q, k, v = (qkv[..., 32 * i + 8 * head : 32 * i + 8 * head + 8] for i in range(3))
        heads.append(torch.softmax(q @ k.mT / 8**0.5, -1) @ v)
    expected = x + torch.cat(heads, -1) @ block.out.weight.T + block.out.bias
    assert_close(block(x), expected)


def test_exported_attention_is_of_four_dimensions_which_onnx_has():
    block, x = Attention(12), torch.randn(2, 4, 5, 12)
    exported = torch.export.export(block, (x,), dynamic_shapes=({0: torch.export.Dim("images")},))
    products = torch.ops.aten.scaled_dot_product_attention.default
    (attention,) = exported.graph.find_nodes(op="call_function", target=products)
    assert [part.meta["val"].dim() for part in attention.args] == [4, 4, 4]
    x = torch.randn(17, 4, 5, 12)
    assert_close(exported.module()(x), block(x))


def test_attention_has_second_derivatives():
    block, x = Attention(12), torch.randn(2, 4, 5, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad.isfinite().all()


def test_feed_forward_is_two_dense_layers_and_a_skip():
    block, x = FeedForward(6, 15).double(), torch.randn(2, 3, 6, dtype=torch.double)
    N = F.layer_norm(x, (6,))
    z = N @ block.up.weight.T + block.up.bias
    assert_close(block(x), x + (z * z.sigmoid()) @ block.down.weight.T + block.down.bias)


@pytest.mark.parametrize(("out", "stride", "skip"), [(6, 1, True), (6, 2, False), (8, 1, False)])
def test_an_inverted_residual_adds_its_input_where_it_can(out, stride, skip):
    block, x = InvertedResidual(6, out, stride, 2).eval(), torch.randn(2, 6, 8, 8)
    y = block.layers(x)
    assert block.skip == skip
    assert_close(block(x), x + y if skip else y)
    assert y.shape == (2, out, 8 // stride, 8 // stride)


@pytest.mark.parametrize("block", ["mlp", "han"])
def test_a_transformer_sees_the_pixels_at_one_place_of_the_patches(block):
    net = MobileViTBlock(12, 1, 6, 24, block).eval()
    seen = []
    net.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 6, 4, 6)
    pixels, y = net.local(x), net(x)
    assert y.shape == x.shape
    assert seen[0].shape == (2, 4, 6, 12)
    for place in range(4):
        every_other = pixels[:, :, place // 2 :: 2, place % 2 :: 2]
        assert_close(seen[0][:, place], every_other.flatten(2).mT)
    back = torch.empty_like(pixels)
    for place in range(4):
        transformed = net.transformer(seen[0])[:, place].mT.unflatten(2, (2, 3))
        back[:, :, place // 2 :: 2, place % 2 :: 2] = transformed
    assert_close(y, net.fuse(torch.cat([x, net.back(back)], 1)))


@pytest.mark.parametrize(("size", "block"), KINDS)
def test_shapes_and_gradients_of_every_parameter(size, block):
    net = MobileViT(7, size, block)
    assert net.eval()(torch.randn(1, 3, 128, 64)).shape == (1, 7)
    y = net.train()(torch.randn(2, 3, 64, 64))
    y.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("block", ["mlp", "han"])
def test_evaluation_layouts_and_autocast(block):
    net, x = MobileViT(7, "xxs", block).eval(), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        y = net(x)
        assert_close(y[:1], net(x[:1]))
        assert_close(net(x.to(memory_format=torch.channels_last)), y)
        assert net(x[:0]).shape == (0, 7)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x)
    assert half.dtype == torch.bfloat16
    half.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("size", "block"), KINDS)
def test_saved_and_loaded_models_are_equal(size, block, tmp_path):
    net, x = MobileViT(7, size, block), torch.randn(2, 3, 64, 64)
    net(x)  # moves the averages of BatchNorm
    net.save_pretrained(tmp_path)
    loaded = MobileViT.from_pretrained(tmp_path)
    assert torch.equal(loaded(x), net.eval()(x))
    assert repr(loaded) == repr(net)
    card = (tmp_path / "README.md").read_text()
    count = sum(p.numel() for p in net.parameters())
    for said in ("license: mit", f"MobileViT-{size.upper()}", f"block {block}", f"{count:,} parameters", "7 classes"):
        assert said in card, said
    assert "@article{yu2024lightweight" in card


BAD = {
    "num_classes must be a positive integer, got 0": lambda: MobileViT(0),
    "size must be one of xxs, xs, got 's'": lambda: MobileViT(10, "s"),
    "block must be one of mlp, han, got 'fc'": lambda: MobileViT(10, block="fc"),
    "images must be (n, 3, h, w) with h and w multiples of 64, got (2, 3, 32, 32)": lambda: MobileViT(10)(
        torch.ones(2, 3, 32, 32)
    ),
    "images must be (n, 3, h, w) with h and w multiples of 64, got (3, 64, 64)": lambda: MobileViT(10)(
        torch.ones(3, 64, 64)
    ),
    "images must be (n, 3, h, w) with h and w multiples of 64, got (2, 1, 64, 64)": lambda: MobileViT(10)(
        torch.ones(2, 1, 64, 64)
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_named_in_one_sentence(sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011  compared below, to the letter
        BAD[sentence]()
    assert str(error.value) == sentence


CIFAR = Path(os.environ.get("HANNET_DATA", "/nonexistent")) / "cifar-10-batches-bin" / "data_batch_1.bin"


@pytest.mark.skipif(not CIFAR.exists(), reason="needs HANNET_DATA with cifar-10-batches-bin")
@pytest.mark.parametrize("block", ["mlp", "han"])
def test_learns_a_batch_of_cifar10(block):
    rows = torch.from_numpy(np.fromfile(CIFAR, np.uint8, 16 * 3073).reshape(16, 3073))
    x, labels = rows[:, 1:].view(16, 3, 32, 32).float() / 127.5 - 1, rows[:, 0].long()
    x, net = nn.functional.interpolate(x, (64, 64), mode="bilinear"), MobileViT(10, "xxs", block)
    optimizer = torch.optim.AdamW(net.parameters(), 0.002)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
