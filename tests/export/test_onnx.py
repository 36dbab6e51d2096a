import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from hannet import HanBlock, HanLinear, HanNet, HanStack, Householder
from hannet.cli.export import load_model
from hannet.export import describe, verify
from hannet.export.onnx import IR_VERSION, OPSET, to_model
from hannet.export.sources import open_source

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"


def odd_net():
    """Han-layers first, after padding, behind a Linear without activation, and last."""
    return nn.Sequential(
        HanStack(40, 2), nn.ZeroPad1d((0, 3)), HanStack(43, 2), Householder(43), nn.ReLU(), nn.Linear(43, 40), HanStack(40, 1)
    )  # fmt: skip


@pytest.mark.parametrize("form", [None, "augmented", "rank one", "matrix", "elementwise"])
@pytest.mark.parametrize("net", [lambda: HanNet(5, 2, width=40, depth=4), odd_net])
def test_every_form_of_a_layer_computes_the_same(form, net):
    source = open_source(net())
    tried = verify.trial(source, 50)
    found = ReferenceEvaluator(to_model(source.program, form=form)).run(None, verify.onnx_feed(tried.rows))[0]
    check = verify.compare(str(form), found, tried)
    assert check.passed, check


def chain():
    """Rectangular maps both ways, and blocks wider than their features."""
    return nn.Sequential(
        HanLinear(5, 40, reflections=3), HanBlock(40), HanBlock(40, 44, 2, 2, scale=0.5), HanBlock(40, 41),
        HanLinear(40, 3, bias=False, reflections=2),
    )  # fmt: skip


@pytest.mark.parametrize("form", [None, "augmented", "rank one"])
def test_diagonals_cut_and_pad(form):
    source = open_source(chain())
    tried = verify.trial(source, 50)
    found = ReferenceEvaluator(to_model(source.program, form=form)).run(None, verify.onnx_feed(tried.rows))[0]
    assert verify.compare(str(form), found, tried).passed
    assert source.program.multiply_adds == (
        2 * 3 * 45 + 5 + 2 * 2 * 40 + 2 * 6 * 44 + 40 + 2 * 2 * 41 + 40 + 2 * 2 * 43 + 3
    )


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_any_number_of_rows(rows):
    net = HanNet(5, 2, width=40, depth=4)
    x = torch.randn(rows, 5)
    y = ReferenceEvaluator(to_model(describe(net))).run(None, {"x": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(y), net(x).detach())


def test_nan_stays_nan():
    model = to_model(describe(HanNet(5, 2, width=40, depth=4)))
    assert np.isnan(ReferenceEvaluator(model).run(None, {"x": np.full((1, 5), np.nan, np.float32)})[0]).all()


def test_no_norm_is_left_to_compute():
    model = to_model(describe(HanNet(5, 2, width=40, depth=4)))
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Gemm", "Abs", "MatMul", "LeakyRelu"}
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (10, 18)


def test_a_table_says_what_goes_in_and_comes_out(table_models):
    model = to_model(describe(table_models["color"]))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kinds = {put.name: put.type.tensor_type.elem_type for put in (*model.graph.input, *model.graph.output)}
    assert json.loads(kept["columns"]) == [put.name for put in model.graph.input]
    assert json.loads(kept["classes"]) == sorted(["red?", 'gr"een', "bl@ue"])
    assert kept["predicts"] == "color"
    assert len(kept["model_sha256"]) == 64
    assert kinds["city"] == kinds["class"] == onnx.TensorProto.STRING
    assert kinds["area"] == onnx.TensorProto.DOUBLE
    assert kinds["probabilities"] == onnx.TensorProto.FLOAT


def test_words_and_missing_ones_count_as_in_predict(table_models):
    model = table_models["color"]
    source = open_source(model)
    rows = source.rows(8, np.random.default_rng(0))
    rows = {name: np.repeat(values[3:4], 8) for name, values in rows.items()}
    rows["city"] = np.array(["Köln", "Bonn?", "NA", "na", "nA", "", "elsewhere", 'c*/"d?'], object)
    rows["rooms"][:4] = [np.nan, np.inf, -1e30, 3.0]
    found = ReferenceEvaluator(to_model(source.program)).run(None, verify.onnx_feed(rows))
    np.testing.assert_allclose(found[0], source.evaluate(rows, torch.float64), atol=1e-6)
    assert [str(label) for label in found[1]] == [model.target.classes[place] for place in found[0].argmax(1)]


def test_words_in_other_capitals_are_unknown_ones(table_models):
    """Unlike in predict, as docs/export.md says."""
    source = open_source(table_models["color"])
    rows = {name: np.repeat(values[3:4], 2) for name, values in source.rows(8, np.random.default_rng(0)).items()}
    rows["city"] = np.array(["köln", "elsewhere"], object)
    found = ReferenceEvaluator(to_model(source.program)).run(None, verify.onnx_feed(rows))[0]
    np.testing.assert_array_equal(found[0], found[1])


def run_reference(model, feed):
    return ReferenceEvaluator(model).run(None, feed)[0]


def run_onnxruntime(model, feed):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0]


def run_openvino(model, feed):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    return core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)[0]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [run_reference, run_onnxruntime, run_openvino])
@pytest.mark.parametrize("model", ["HanNet", "odd", "chain", "classifier", "regressor", "images-hannet"])
def test_batches_of_any_size_in_every_runtime(model, runtime):
    nets = {"HanNet": lambda: HanNet(13, 2, width=200, depth=20), "odd": odd_net, "chain": chain}
    source = open_source(nets[model]() if model in nets else load_model(FIXTURES / model))
    made, tried = to_model(source.program), verify.trial(source, 1020)
    feed, start, found = verify.onnx_feed(tried.rows), 0, []
    for size in (1, 2, 17, 1000):
        found.append(runtime(made, {name: values[start : start + size] for name, values in feed.items()}))
        start += size
    check = verify.compare(runtime.__name__, np.concatenate(found), tried)
    assert check.passed, check
