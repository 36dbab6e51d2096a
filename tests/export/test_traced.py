import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hannet import HanMixer, MobileViT
from hannet.cli.export import load_model
from hannet.export import ExportError, to_onnx
from hannet.vision.export_source import ImageClassifier
from hannet.vision.preprocessing import Preprocessing, probabilities

FIXTURE = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0" / "images-han-mixer"


def mixer():
    return HanMixer(8, 3, channels=(2, 2, 4, 4, 6), mlp_blocks=1, han_blocks=1).eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["saved", "resized", "MobileViT"])
def test_a_classifier_of_images_in_batches_of_any_size(kind, tmp_path):
    model = load_model(FIXTURE)
    if kind != "saved":
        wanted = Preprocessing(
            3, 5, ("b", "ä", "c"), (0.5, 0.4, 0.5), (0.2, 0.2, 0.3), resize=8 if kind == "resized" else 64
        )
        model = ImageClassifier(mixer() if kind == "resized" else MobileViT(3, "xxs", "han").eval(), wanted)
    report = to_onnx(model, tmp_path / "net.onnx")
    assert report.checks[0].passed
    assert report.facts["bytes"] == (tmp_path / "net.onnx").stat().st_size

    written = onnx.load(tmp_path / "net.onnx")
    facts = {entry.key: entry.value for entry in written.metadata_props}
    assert facts["model_sha256"] == report.model_sha256
    assert json.loads(facts["classes"]) == list(model.preprocessing.classes)
    assert [written.opset_import[0].version, written.ir_version, len(written.functions)] == [18, 10, 0]
    assert not {"ReduceL2", "Sqrt"} & {node.op_type for node in written.graph.node}  # no norm of u is left

    session, rng = onnxruntime.InferenceSession(tmp_path / "net.onnx"), np.random.default_rng(0)
    assert [value.name for value in session.get_outputs()] == ["probabilities", "class"]
    for count in (1, 2, 17):
        x = rng.integers(0, 256, (count, 3, *[model.preprocessing.size] * 2), dtype=np.uint8)
        found, classes = session.run(None, {"x": x})
        expected = probabilities(model.network, model.preprocessing, torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert list(classes) == [model.preprocessing.classes[best] for best in found.argmax(1)]


@pytest.mark.slow
def test_a_network_takes_images_of_numbers(tmp_path):
    net = mixer()
    assert to_onnx(net, tmp_path / "net.onnx").checks
    session, x = onnxruntime.InferenceSession(tmp_path / "net.onnx"), torch.randn(17, 3, 8, 8)
    (found,) = session.run(["y"], {"x": x.numpy()})
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-6)


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"exporting a HanMixer needs onnxscript: pip install 'hannet\[export\]'"):
        to_onnx(mixer(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_refuses_weights_that_are_not_finite_and_hooks(tmp_path):
    net = mixer()
    handle = net.han_blocks.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="HanMixerBlocks has hooks"):
        to_onnx(net, tmp_path / "net.onnx")
    handle.remove()
    net.head.bias.data[0] = torch.nan
    with pytest.raises(ExportError, match="HanMixer has weights that are not finite"):
        to_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
