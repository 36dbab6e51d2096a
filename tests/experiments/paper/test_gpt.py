import pytest
import torch
import torch.nn.functional as F

from hannet.experiments.paper import _gpt

NONE = {"kind": "GPT", "feedforward": {"form": "none"}}


def test_a_character_sees_only_those_before_it():
    net = _gpt.build({"kind": "GPT", "feedforward": {"form": "dense", "hidden": 2}}, 0)
    x = torch.randint(_gpt.SYMBOLS, (1, 9))
    changed = x.clone()
    changed[0, 5] = (x[0, 5] + 1) % _gpt.SYMBOLS
    same = (net(x) == net(changed)).all(-1)
    assert same.tolist() == [True] * 5 + [False] * 4


def test_the_seed_fixes_the_start():
    first, second, other = (_gpt.build(NONE, seed).logits.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_block_diagonal_maps_neighbours_and_mixes_them_in_the_next():
    layer = _gpt.BlockDiagonal(6, 4, 2)
    x = torch.randn(5, 6)
    first, second = x[:, :3] @ layer.weight[0], x[:, 3:] @ layer.weight[1]
    wanted = torch.stack([first[:, 0], second[:, 0], first[:, 1], second[:, 1]], 1)
    assert torch.allclose(layer(x).float(), wanted, atol=1e-6)


@pytest.mark.parametrize(("form", "size"), [("monarch", 16), ("grouped", 8)])
def test_every_output_depends_on_every_input_where_maps_follow_each_other(form, size):
    net = _gpt.build_feedforward(form, 320 if form == "grouped" else 512, size)
    x = torch.randn(1, _gpt.WIDTH)
    jacobian = torch.autograd.functional.jacobian(net, x)[0, :, 0]
    assert (jacobian != 0).all()


def test_windows_are_those_of_seed_and_step():
    text = torch.arange(1000)
    x, y = _gpt.Windows(text, 0, 10).at(1, 2)
    assert x.shape == (_gpt.BATCH, _gpt.CONTEXT)
    assert torch.equal(x[:, 1:], y.view(x.shape)[:, :-1])
    assert torch.equal(x, _gpt.Windows(text, 0, 10).at(1, 2)[0])
    assert not torch.equal(x, _gpt.Windows(text, 0, 10).at(1, 3)[0])


def test_the_loss_is_over_all_windows():
    net, text = _gpt.build(NONE, 0), torch.randint(_gpt.SYMBOLS, (5 * _gpt.CONTEXT + 7,))
    x, y = (part[: 5 * _gpt.CONTEXT].view(5, -1) for part in (text[:-1], text[1:]))
    assert _gpt.loss(net, text, rows=2) == pytest.approx(F.cross_entropy(net(x), y.flatten()).item(), rel=1e-5)


def test_training_lowers_the_loss():
    text = torch.arange(3000) % _gpt.SYMBOLS
    net = _gpt.build(NONE, 0)
    before = _gpt.loss(net, text)
    assert _gpt.train(net, _gpt.recipe(3e-3, 12), 0, text, "", lambda _: None) > 0
    assert _gpt.loss(net, text) < before - 1


def test_parts_stand_side_by_side(monkeypatch):
    monkeypatch.setattr(_gpt, "characters", lambda: torch.arange(100))
    training, validation = _gpt.parts({"train": 0.8, "validation": 0.1})
    assert (len(training), validation.tolist()) == (80, list(range(80, 90)))


def test_an_unknown_form_is_no_dense_layer():
    with pytest.raises(
        ValueError, match="form must be none, HanBlock, dense, low-rank, grouped or monarch, got 'monrach'"
    ):
        _gpt.build_feedforward("monrach", 8, 2)
