import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import register_parametrization

from hannet import UnitLinear
from hannet.surgery import SurgeryError, replace_feedforward, replace_linear


class Subclass(torch.Tensor):
    """As quantised and sharded weights are."""


def with_hook():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    return layer


def patched():
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x
    return layer


def parametrised():
    layer = nn.Linear(4, 4)
    register_parametrization(layer, "weight", nn.Identity())
    return layer


def of_weight(weight):
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


REFUSED = {
    "it has hooks": with_hook,
    "or a replaced forward": patched,
    r"it has parametrizations \(weight\): remove them first": parametrised,
    "it has parametrizations": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "it is a UnitLinear, whose forward may do more than a Linear's": lambda: UnitLinear(4, 4),
    r"its weight is torch.int8, not floating point": lambda: of_weight(torch.zeros(4, 4, dtype=torch.int8)),
    r"its weight has the shape \(0,\): gather its shards first": lambda: of_weight(torch.zeros(0)),
    "its weight is a Subclass, quantised or sharded": lambda: of_weight(torch.zeros(4, 4).as_subclass(Subclass)),
    "its weight is on the meta device: load it first": lambda: nn.Linear(4, 4, device="meta"),
    "its weight is not finite": lambda: of_weight(torch.full((4, 4), torch.nan)),
    "it is a Linear, whose forward may": lambda: torch.ao.nn.quantized.dynamic.Linear(4, 4),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reason", REFUSED)
def test_layers_that_cannot_be_replaced_are_refused_by_name(reason):
    model = nn.Sequential(REFUSED[reason](), nn.ReLU(), nn.Linear(4, 4))
    kept = model[0]
    done = replace_linear(model, by=1, steps=0)
    assert [change.name for change in done.changes] == ["2"]
    assert model[0] is kept
    assert list(done.refused) == ["0"]
    with pytest.raises(SurgeryError, match=reason):
        replace_linear(model, "0", by=1)
    with pytest.raises(SurgeryError, match=reason):
        replace_feedforward(nn.Sequential(REFUSED[reason](), nn.ReLU(), nn.Linear(4, 4)))


def test_shared_layers_and_weights_are_refused():
    shared = nn.Linear(4, 4)
    with pytest.raises(SurgeryError, match="the same layer is at 0 and 2"):
        replace_linear(nn.Sequential(shared, nn.ReLU(), shared), by=1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(SurgeryError, match=r"its weight is shared: 0\.weight and 1\.weight"):
        replace_linear(model, "1", by=1)


def test_attention_keeps_the_layer_that_it_reads():
    with pytest.raises(SurgeryError, match=r"self_attn \(MultiheadAttention\) reads its weight instead of calling it"):
        replace_linear(nn.TransformerEncoderLayer(8, 2, 16), "self_attn.*", by=1)


def test_adapters_of_peft_are_left_alone():
    kind = type("LoraLinear", (nn.Sequential,), {"__module__": "peft.tuners.lora.layer"})
    with pytest.raises(SurgeryError, match=r"0\.0: it is part of an adapter of PEFT \(LoraLinear\): merge that first"):
        replace_linear(nn.Sequential(kind(nn.Linear(2, 2))), by=1)


def test_wrapped_models_are_refused():
    for wrap in (nn.DataParallel, lambda model: torch.compile(model, backend="eager")):
        with pytest.raises(SurgeryError, match="change the model first, then wrap it"):
            replace_linear(wrap(nn.Sequential(nn.Linear(2, 2))), by=1)


@pytest.mark.parametrize(
    ("sentence", "call"),
    [
        ("the model has no linear layer where 'fc' says", lambda: replace_linear(nn.Sequential(nn.Linear(2, 2)), "fc")),
        ("the model has no linear layer$", lambda: replace_linear(nn.Sequential(nn.ReLU()))),
        ("it is the model itself: surgery.han", lambda: replace_linear(nn.Linear(2, 2))),
        ("the model has no feed-forward", lambda: replace_feedforward(nn.Sequential(nn.Linear(2, 2)))),
        (
            "makes 2 features into 3, and a HanBlock keeps",
            lambda: replace_feedforward(nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 3))),
        ),
    ],
)
def test_nothing_to_replace_says_why(sentence, call):
    with pytest.raises(SurgeryError, match=sentence):
        call()


def test_where_must_be_something_that_says_where():
    with pytest.raises(TypeError, match="where must be a name, a pattern, a type"):
        replace_linear(nn.Sequential(nn.Linear(2, 2)), 3)
