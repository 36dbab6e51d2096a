import copy
import json
from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import HanBlock, MobileViT
from hannet.functional import han_stack, householder

OPTIONS = [
    {"hidden": hidden, "depth": depth, "reflections": reflections, "scale": scale, "norm": norm, "skip": skip}
    for hidden, depth, reflections, (scale, norm, skip) in product(
        (None, 9), (1, 3), (1, 2), ((None, False, False), (0.5, True, False), (0.0, False, True))
    )
]


def test_a_han_block_is_two_reflections_with_one_abs_between():
    block, x = HanBlock(6).double(), torch.randn(2, 3, 6, dtype=torch.double)

    def reflected(x, u):
        return x @ (torch.eye(6, dtype=torch.double) - 2 * torch.outer(u, u) / (u @ u))

    folded = (reflected(x, block.fold.u) + block.fold.b).abs()
    assert_close(block(x), reflected(folded, block.reflect.u) + block.reflect.b)


def test_a_han_block_starts_as_the_authors_do():
    block = HanBlock(400)
    for layer in (block.fold, block.reflect):
        assert layer.u.abs().max() <= 1
        assert layer.u.std().item() == pytest.approx(3**-0.5, rel=0.1)
        assert layer.b.abs().max() <= 400**-0.5
    before = block.fold.u.clone()
    block.reset_parameters()
    assert not torch.equal(before, block.fold.u)


@pytest.mark.parametrize(("reflections", "kept"), [(1, 1), (2, 2), (3, 1), (6, 2), (41, 1)])
def test_of_many_reflections_most_cancel_at_the_start(reflections, kept):
    block = HanBlock(8, 10, 2, reflections).double()
    short = HanBlock(8, 10, 2, kept).double()
    with torch.no_grad():
        for layer, few in ((block.fold, short.fold), (block.reflect, short.reflect)):
            few.u.copy_(layer.u.view(-1, reflections, 10)[:, :kept].reshape(few.u.shape))
            few.b.copy_(layer.b)
    x = torch.randn(5, 8, dtype=torch.float64)
    assert_close(block(x), short(x))
    block(x).square().mean().backward()
    assert block.fold.u.grad.norm(dim=-1).min() > 0


@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
def test_a_block_is_its_equation(options):
    block, x = HanBlock(6, **options).double(), torch.randn(2, 3, 6, dtype=torch.double)
    if block.scale is not None:
        nn.init.normal_(block.scale)
    z = nn.functional.layer_norm(x, (6,)) if options["norm"] else x
    z = torch.cat([z, torch.zeros(2, 3, block.hidden - 6, dtype=torch.double)], -1)
    u, b = block.fold.u.reshape(-1, block.hidden), block.fold.b.reshape(-1, block.hidden)
    z = han_stack(z, u, b, reflections=options["reflections"])
    for row in block.reflect.u.reshape(-1, block.hidden):
        z = householder(z, row)
    z = (z + block.reflect.b)[..., :6]
    z = z if block.scale is None else z * block.scale
    assert_close(block(x), x + z if options["skip"] else z)
    assert torch.autograd.gradcheck(block, x[:1, :1].requires_grad_())
    block(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_a_scale_starts_as_given_and_there_is_none_by_default():
    assert HanBlock(6).scale is None
    assert torch.equal(HanBlock(6, scale=0.25).scale.detach(), torch.full((6,), 0.25))
    assert torch.equal(HanBlock(6, scale=0, skip=True)(torch.ones(6)), torch.ones(6))


def test_the_names_of_mobilevit_stay():
    keys = [key for key in MobileViT(2, "xxs", "han").state_dict() if ".1.fold." in key or ".1.reflect." in key]
    assert {key.split(".1.")[-1] for key in keys} == {"fold.u", "fold.b", "reflect.u", "reflect.b"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precisions_copies_and_one_graph(dtype):
    block = HanBlock(6, 9, 2, scale=1.0, norm=True, skip=True, dtype=dtype)
    x = torch.randn(4, 6, dtype=dtype)
    assert block(x).dtype == dtype
    assert torch.equal(copy.deepcopy(block)(x), block(x))
    assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))
    with torch.autocast("cpu", torch.bfloat16):
        block(x).sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in block.parameters())


BAD = {
    "hidden must be at least features (4), got 3": lambda: HanBlock(4, 3),
    "hidden must be a positive integer, got 0": lambda: HanBlock(4, 0),
    "depth must be a positive integer, got 0": lambda: HanBlock(4, depth=0),
    "scale must be finite, got nan": lambda: HanBlock(4, scale=float("nan")),
    "x must have 4 features last, got (2, 5)": lambda: HanBlock(4)(torch.ones(2, 5)),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_named_in_one_sentence(sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011  compared below, to the letter
        BAD[sentence]()
    assert str(error.value) == sentence
