import pytest
import torch
from torch import nn

from hannet import HanBlock
from hannet.surgery import SurgeryError, replace_feedforward
from hannet.surgery.feedforward import find_feedforwards


def names(model):
    return [(slots.first, slots.between, slots.last) for slots in find_feedforwards(model)]


def test_a_sequence_has_feedforwards_between_its_linear_layers():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(), nn.GELU(), nn.Dropout(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)
    )  # fmt: skip
    assert names(model) == [("0", ("1", "2", "3"), "4")]
    assert names(nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 4))) == []
    assert names(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))) == []
    assert names(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4)))) == [
        ("1.0", ("1.1",), "1.2")
    ]


def test_dropout_between_goes_with_the_feedforward():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4))
    replace_feedforward(model, scale=None, hidden=6, dry_run=False)
    assert isinstance(model[0], HanBlock)
    assert model[0].scale is None
    assert all(type(module) is nn.Identity for module in model[1:])
    x = torch.randn(3, 4)
    assert torch.equal(model.train()(x), model[0](x))


@pytest.mark.parametrize("activation", ["relu", "gelu", nn.functional.silu, nn.Tanh()])
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_layers_of_pytorch_get_their_activation_back(kind, activation):
    layer = kind(8, 2, 20, activation=activation, batch_first=True).eval()
    before = layer.activation
    inputs = [torch.randn(2, 3, 8)] * (1 + (kind is nn.TransformerDecoderLayer))
    expected = layer(*inputs)
    done = replace_feedforward(layer)
    assert layer(*inputs).shape == (2, 3, 8)
    assert [change.name for change in done.changes] == ["linear1"]
    done.undo()
    assert layer.activation is before
    assert torch.equal(layer(*inputs), expected)


def test_hooks_of_what_is_between_are_not_lost():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(SurgeryError, match="1: it has hooks"):
        replace_feedforward(model)


def test_a_block_is_where_and_what_the_first_layer_was():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).double().eval()
    replace_feedforward(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not model[0].training
    other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    replace_feedforward(other, by=lambda first, last: nn.Linear(first.in_features, last.out_features))
    assert other(torch.randn(2, 4)).shape == (2, 3)
