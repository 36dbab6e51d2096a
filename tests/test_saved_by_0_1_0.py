"""Models that hannet 0.1.0 saved (commit ab1c4d3) keep loading, and compute what they computed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hannet import HanClassifier, HanLayer, HanNet, HanRegressor, HanStack

SAVED = Path(__file__).parent / "fixtures" / "saved_by_0_1_0"
EXPECTED = json.loads((SAVED / "expected.json").read_bytes())


@pytest.mark.parametrize(("name", "module"), [("han_layer", HanLayer(6)), ("han_stack", HanStack(6, 3))])
def test_state_dict(name, module):
    module.load_state_dict(load_file(SAVED / f"{name}.safetensors"))
    outputs = module(torch.tensor(EXPECTED[name]["x"]))
    torch.testing.assert_close(outputs, torch.tensor(EXPECTED[name]["y"]))


def test_hannet():
    outputs = HanNet.from_pretrained(SAVED / "hannet")(torch.tensor(EXPECTED["hannet"]["x"]))
    torch.testing.assert_close(outputs, torch.tensor(EXPECTED["hannet"]["y"]))


def test_estimators():
    regressor, classifier = HanRegressor.load(SAVED / "regressor"), HanClassifier.load(SAVED / "classifier")
    x = np.array(EXPECTED["regressor"]["x"])
    np.testing.assert_allclose(regressor.predict(x), EXPECTED["regressor"]["y"], rtol=1e-12)
    np.testing.assert_allclose(classifier.predict_proba(x), EXPECTED["classifier"]["y"], rtol=1e-12)


def test_table_model(hannet, tmp_path):
    out = tmp_path / "predictions.csv"
    code, _, stderr = hannet("predict", str(SAVED / "table"), str(SAVED / "new.csv"), "--out", str(out))
    assert code == 0, stderr
    predictions = [line.split(",")[-1] for line in out.read_text().splitlines()[1:]]
    np.testing.assert_allclose(
        np.array(predictions, float), np.array(EXPECTED["table"]["prediction"], float), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["images-han-mixer", "images-hannet"])
def test_image_model(hannet, name):
    code, stdout, stderr = hannet("predict", str(SAVED / name), str(SAVED / "green_square.png"), "--json")
    assert code == 0, stderr
    (found,), (expected,) = json.loads(stdout)["pictures"], EXPECTED[name]
    assert found["classes"] == expected["classes"]
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], rtol=1e-4)
