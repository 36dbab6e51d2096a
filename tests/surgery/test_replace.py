import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.testing import assert_close

from hannet import HanBlock, HanLinear, UnitLinear
from hannet.export import describe
from hannet.surgery import SurgeryError, han, replace_feedforward, replace_linear
from surgery_toy import ddp_step, plain


def encoder(layers=2, **options):
    layer = nn.TransformerEncoderLayer(8, 2, 20, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers).eval()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (None, ["0", "3", "4"]),
        ("3", ["3"]),
        ("[03]", ["0", "3"]),
        (["0", "4"], ["0", "4"]),
        (lambda _, layer: layer.out_features == 8, ["3"]),
        (nn.Linear, ["0", "3", "4"]),
    ],
    ids=["all", "name", "pattern", "list", "predicate", "type"],
)
def test_layers_are_found_by_name_pattern_type_and_predicate(where, names):
    model = plain()
    before = dict(model.named_children())
    done = replace_linear(model, where, by=2, steps=5)
    assert [change.name for change in done.changes] == names
    assert all(isinstance(model[int(name)], HanLinear) == (name in names) for name in "034")
    done.undo()
    assert list(model.named_children()) == list(before.items())


def test_a_dry_run_changes_nothing_and_counts_what_would():
    model = plain()
    before = copy.deepcopy(model.state_dict())
    planned = replace_linear(model, ["0", "4"], by=2, dry_run=True)
    assert not planned.done
    assert not any(isinstance(module, HanLinear) for module in model)
    one, other, total = planned.table().rows
    assert one["name"], one["parameters_before"] == ("0", 8 * 12 + 12)
    assert one["parameters_after"] == 2 * (8 + 12) + 8 + 12
    assert one["multiply_adds_before"] == 96
    assert one["multiply_adds_after"] == 2 * 2 * 20 + 8
    assert total["parameters_after"] == one["parameters_after"] + other["parameters_after"]
    assert "| 0 | Linear | HanLinear, 2 reflections | 108 |" in str(planned)
    assert planned.apply().done
    real = [sum(p.numel() for p in model[int(name)].parameters()) for name in "04"]
    assert real == [one["parameters_after"], other["parameters_after"]]
    planned.undo()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))


def test_parts_of_a_plan_are_done_and_undone_by_name():
    model = plain()
    planned = replace_linear(model, by=1, steps=0, dry_run=True).apply("0", "4")
    assert [isinstance(model[index], HanLinear) for index in (0, 3, 4)] == [True, False, True]
    planned.undo("4")
    assert [isinstance(model[index], HanLinear) for index in (0, 3, 4)] == [True, False, False]
    assert planned.done
    with pytest.raises(SurgeryError, match="7 is not among the layers to change"):
        planned.apply("7")


def test_with_enough_reflections_a_model_computes_the_same():
    model, x = plain(), torch.randn(5, 8)
    expected = model(x)
    replace_linear(model, by=100)
    assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_another_module_may_be_the_replacement():
    model = plain()
    replace_linear(model, "0", by=lambda linear: nn.Linear(linear.in_features, linear.out_features, bias=False))
    assert model[0].bias is None


def test_han_is_one_call():
    assert isinstance(han(nn.Linear(4, 3), 2, steps=0), HanLinear)
    model = plain()
    assert han(model, 2, steps=0) is model
    assert isinstance(model[4], HanLinear)
    frozen = nn.Linear(4, 3).requires_grad_(False)
    assert not any(p.requires_grad for p in han(frozen, 2, steps=0).parameters())


def test_undo_notices_later_changes():
    model = plain()
    first = replace_linear(model, "0", by=2, steps=0)
    model[0] = nn.Linear(8, 12)
    with pytest.raises(SurgeryError, match="0 is no longer what this surgery put there"):
        first.undo()


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("replace", [replace_feedforward, lambda model: replace_linear(model, "*.1.linear1", steps=0)])
def test_the_fast_path_of_an_encoder_is_left_and_found_again(replace, mask):
    model, x = encoder(), torch.randn(2, 5, 8)
    options = {"src_key_padding_mask": torch.arange(5).repeat(2, 1) >= torch.tensor([[3], [5]])} if mask else {}
    with torch.no_grad():
        expected = model(x, **options)
    flags = [(layer.activation_relu_or_gelu, model.use_nested_tensor) for layer in model.layers]
    done = replace(model)
    slow = model.train()(x, **options)  # without dropout, both modes compute the same
    with torch.no_grad():
        evaluated = model.eval()(x, **options)
        copied = copy.deepcopy(model)(x, **options)
    keep = ~options["src_key_padding_mask"] if mask else slice(None)
    assert torch.equal(evaluated, copied)
    assert evaluated.shape == slow.shape
    assert not torch.equal(evaluated[keep], expected[keep])
    done.undo()
    assert flags == [(layer.activation_relu_or_gelu, model.use_nested_tensor) for layer in model.layers]
    with torch.no_grad():
        assert torch.equal(model(x, **options), expected)


def test_a_layer_with_a_weight_that_is_no_plain_linear_leaves_the_fast_path_too():
    def unit(linear):
        return UnitLinear(linear.in_features, linear.out_features)

    model, x = encoder(dropout=0.0), torch.randn(2, 5, 8)
    replace_linear(model, "*.linear2", by=unit)
    slow = model.train()(x)
    with torch.no_grad():
        assert_close(model.eval()(x), slow)


def test_evaluation_and_training_agree_after_surgery():
    model, x = encoder(dropout=0.0), torch.randn(2, 5, 8)
    replace_feedforward(model, depth=2)
    with torch.no_grad():
        assert_close(model.eval()(x), model.train()(x))


MODELS = ["bert", "gpt2", "vit", "llama"]


@pytest.mark.parametrize("name", MODELS)
def test_feedforwards_of_transformers(name, transformer, tmp_path):
    model, run = transformer(name)
    expected, keys = run(), list(model.state_dict())
    done = replace_feedforward(model, scale=0.5)
    assert len(done.changes) == 2
    assert sum(isinstance(module, HanBlock) for module in model.modules()) == 2
    changed = run()
    assert not torch.allclose(changed, expected)
    changed.square().mean().backward()
    assert all(
        p.grad is not None for block in model.modules() if isinstance(block, HanBlock) for p in block.parameters()
    )
    model.save_pretrained(tmp_path)
    saved = load((tmp_path / "model.safetensors").read_bytes())
    assert any(".fold.u" in key for key in saved)
    done.undo()
    assert list(model.state_dict()) == keys
    assert torch.equal(run(), expected)
    fresh, run_fresh = transformer(name)
    replace_feedforward(fresh, scale=0.5)
    fresh.load_state_dict(saved, strict=False)
    assert_close(run_fresh(), changed)


@pytest.mark.parametrize("name", MODELS)
def test_linears_of_transformers(name, transformer):
    model, run = transformer(name)
    expected = run().detach()

    def where(path, _):
        return not any(part in path for part in ("head", "cls", "classifier", "pooler"))

    done = replace_linear(model, where, by=8, steps=0)
    assert len(done.changes) >= 4
    assert_close(run(), expected, rtol=1e-3, atol=1e-4)  # 8 is the smaller side of all
    done.undo()
    assert torch.equal(run(), expected)


def test_tied_weights_stay_tied(transformer):
    model, _ = transformer("gpt2")
    done = replace_linear(model, by=2, steps=0, dry_run=True)
    assert done.refused == {"lm_head": "its weight is shared: transformer.wte.weight and lm_head.weight"}


@pytest.mark.slow
def test_two_processes_share_the_gradients_of_a_changed_model(tmp_path):
    from torch import multiprocessing

    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(ddp_step, (str(tmp_path), results), nprocs=2)
        one, other = results[0], results[1]
    assert one
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_changed_model_compiles_to_one_graph_exports_and_runs_in_half_precision(tmp_path):
    model, x = plain(), torch.randn(5, 8)
    replace_linear(model, "4", by=2, steps=0)
    replace_feedforward(model, hidden=12)
    expected = model(x)
    assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
    assert describe(model).output.size == 3
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(model(x), expected, rtol=0.1, atol=0.1)
    fresh = plain()
    replace_linear(fresh, "4", by=2, steps=0)
    replace_feedforward(fresh, hidden=12)
    fresh.load_state_dict(load(save(model.state_dict())))
    assert_close(fresh(x), expected)


@pytest.mark.slow
def test_pytorch_exports_a_changed_model_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = plain(), torch.randn(5, 8)
    replace_linear(model, "4", by=2, steps=0)
    replace_feedforward(model, hidden=12)
    torch.onnx.export(model, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(torch.from_numpy(found), model(x).detach())


def test_undo_gives_back_what_a_training_changed_beside_the_new_layers():
    """Weights and the running statistics of a BatchNorm; of an early undo of one layer nothing else."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    before = copy.deepcopy(model.state_dict())
    done = replace_linear(model, ["0", "3"], by=2, steps=0, dry_run=True).apply("0")

    def train():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(16, 6)).square().mean().backward()
            optimizer.step()

    train()
    done.apply("3")
    train()
    done.undo("3")
    assert not torch.equal(model[4].weight, before["4.weight"])
    done.undo()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.state_dict().keys() == before.keys()


def test_undo_in_another_dtype_and_of_another_shape():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    weight = model[1].weight.detach().clone()
    done = replace_linear(model, "0", by=2, steps=0)
    model.double()
    model[1].weight.data.add_(1)
    done.undo()
    assert torch.equal(model[1].weight.float(), weight)
    done.apply()
    model[1].weight = nn.Parameter(torch.zeros(2, 6))
    with pytest.raises(SurgeryError, match="weight of Linear no longer has its shape before surgery"):
        done.undo()
    assert done.done
