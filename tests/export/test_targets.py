import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hannet import (
    FCNet,
    GroupSort,
    HanBlock,
    HanClassifier,
    HanLinear,
    HanNet,
    HanRegressor,
    HanStack,
    Householder,
    MaxMin,
)
from hannet.cli.export import load_model
from hannet.export import ExportError, describe, targets, to_c, to_onnx, verify
from hannet.export.sources import open_source
from hannet.models import load

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
NETS = {
    "HanNet": lambda: HanNet(13, 2, width=40, depth=6),
    "diagonals": lambda: nn.Sequential(
        HanLinear(5, 40, reflections=3), HanBlock(40, 44, 2, scale=0.5), HanLinear(40, 3, bias=False)
    ),
    "narrow": lambda: HanNet(3, 2, width=5, depth=4),
    "wide": lambda: HanNet(13, 1, width=100, depth=4),
    "lipschitz": lambda: HanNet(5, 3, width=20, depth=4, lipschitz=True, reflections=2),
    "FCNet": lambda: FCNet(4, 2, width=10, depth=2, activation="maxmin"),
    "mixed": lambda: nn.Sequential(
        Householder(7, bias=True), nn.Linear(7, 9), nn.ReLU(), HanStack(9, 3, bias=False), GroupSort(3), nn.Linear(9, 70), MaxMin()
    ),
}  # fmt: skip
FOLDERS = ["hannet", "classifier", "regressor", "images-hannet", "table"]


@pytest.mark.parametrize("kind", NETS)
def test_a_network_computes_the_same_as_onnx(kind, tmp_path):
    report = to_onnx(NETS[kind](), tmp_path / "net.onnx")
    assert report.checks
    assert (tmp_path / "net.onnx").stat().st_size == report.facts["bytes"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_saved_model_computes_the_same_as_onnx(folder, tmp_path):
    assert to_onnx(load_model(FIXTURES / folder), tmp_path / "net.onnx").checks


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.usefixtures("needs_compiler")
def test_a_saved_model_computes_the_same_as_c(folder, tmp_path):
    report = to_c(load_model(FIXTURES / folder), tmp_path / "net")
    assert report.checks
    assert set(map(Path, report.files)) == {path for path in (tmp_path / "net").rglob("*") if path.is_file()}


@pytest.mark.parametrize("target", ["price", "color"])
@pytest.mark.usefixtures("needs_compiler")
def test_a_table_computes_the_same_everywhere(target, table_models, tmp_path):
    assert to_onnx(table_models[target], tmp_path / "table.onnx").checks
    assert to_c(table_models[target], tmp_path / "table").checks


def test_what_is_wrong_is_not_written(tmp_path, monkeypatch):
    right = verify.onnx_feed
    monkeypatch.setattr(verify, "onnx_feed", lambda rows: {"x": right(rows)["x"] * np.float32(1.0001)})
    with pytest.raises(ExportError, match="differs from the model by"):
        to_onnx(HanNet(3, 1, width=5, depth=3), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_not_run_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    net = HanNet(3, 1, width=5, depth=3)
    with pytest.raises(ExportError, match=r"no-such-compiler is not installed; --no-verify"):
        to_c(net, tmp_path / "net")
    report = to_c(net, tmp_path / "net", verified=False)
    assert report.lines()[-1] == "Not compared with the model: --no-verify"
    assert json.loads(json.dumps(report.to_dict()))["verified"] is False


class TestRefuses:
    def test_modules_that_no_target_takes(self):
        with pytest.raises(ExportError, match="HanMixer cannot be exported; those that can are Abs, Dropout, FCNet"):
            describe(load(FIXTURES / "images-han-mixer"))
        with pytest.raises(ExportError, match="Tanh cannot be exported"):
            describe(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))

    def test_what_has_no_layer(self):
        with pytest.raises(ExportError, match="no layer that tells"):
            describe(nn.Sequential(nn.ReLU()))

    def test_features_that_are_not_last(self):
        with pytest.raises(ExportError, match="only dim=-1 can"):
            describe(HanStack(3, 2, dim=-2))

    def test_blocks_with_more_than_a_chain(self):
        for more in ({"skip": True}, {"norm": True}):
            with pytest.raises(ExportError, match="a HanBlock with norm or skip cannot be exported"):
                describe(HanBlock(4, **more))

    def test_weights_that_are_no_numbers(self):
        net = HanNet(2, 1, width=3, depth=2)
        nn.init.constant_(net.layers[-1].bias, torch.inf)
        with pytest.raises(ExportError, match="weights that are not finite"):
            describe(net)

    def test_hooks_which_would_be_lost(self):
        net = HanNet(2, 1, width=3, depth=2)
        net.layers[0].register_forward_hook(lambda *call: 2 * call[-1])
        with pytest.raises(ExportError, match="Linear has hooks or a replaced forward"):
            describe(net)

    def test_what_is_no_model(self, tmp_path):
        with pytest.raises(ExportError, match="must be a network"):
            describe(3)
        with pytest.raises(ExportError, match="is no folder"):
            describe(load_model(tmp_path / "none"))

    def test_images_for_mixers(self, tmp_path):
        model = load_model(FIXTURES / "images-han-mixer")
        for refused in (describe, lambda model: to_c(model, tmp_path / "net")):
            with pytest.raises(ExportError, match="a HanMixer for images can be exported to ONNX only"):
                refused(model)
        assert not list(tmp_path.iterdir())

    def test_images_of_more_than_8_bits_say_how_they_were_scaled(self):
        model = load_model(FIXTURES / "images-hannet")
        assert describe(model).kind == "HanNet for images"
        model = replace(model, preprocessing=replace(model.preprocessing, pixel_range=(1030.0, 1259.0)))
        assert describe(model).kind == "HanNet for images whose values from 1030 to 1259 became 0 to 255"

    @pytest.mark.parametrize("name", ["2nd", "a-b", "_x", "", "ü"])
    def test_names_that_c_does_not_take(self, name, tmp_path):
        with pytest.raises(ExportError, match="cannot begin names in C"):
            to_c(HanNet(2, 1, width=3, depth=2), tmp_path / "net", name=name)

    @pytest.mark.parametrize("name", ["time", "Math"])
    def test_names_of_headers_of_c(self, name, tmp_path):
        with pytest.raises(ExportError, match=rf"{name}\.h is a header of C itself: give another name with --name"):
            to_c(HanNet(2, 1, width=3, depth=2), tmp_path / "net", name=name)

    def test_files_in_the_way(self, tmp_path):
        net = HanNet(2, 1, width=3, depth=2)
        (tmp_path / "net.onnx").write_text("mine")
        with pytest.raises(ExportError, match="exists already"):
            to_onnx(net, tmp_path / "net.onnx")
        with pytest.raises(ExportError, match="is a folder"):
            to_onnx(net, tmp_path, force=True)
        with pytest.raises(ExportError, match="folder that does not exist"):
            to_onnx(net, tmp_path / "none" / "net.onnx")
        with pytest.raises(ExportError, match="holds files that no export wrote"):
            to_c(net, tmp_path, force=True, verified=False)
        assert (tmp_path / "net.onnx").read_text() == "mine"

    def test_an_earlier_export_only_without_force(self, tmp_path):
        net = HanNet(2, 1, width=3, depth=2)
        to_c(net, tmp_path / "net", verified=False)
        with pytest.raises(ExportError, match="exists already"):
            to_c(net, tmp_path / "net", verified=False)
        to_c(net, tmp_path / "net", name="other", verified=False, force=True)
        assert (tmp_path / "net" / "other.h").exists()
        assert not (tmp_path / "net" / "model.h").exists()


class TestEstimators:
    @pytest.fixture
    def rows(self):
        rng = np.random.default_rng(1)
        return np.c_[rng.normal(1e5, 1, 200), rng.integers(0, 4, 200), np.ones(200), rng.lognormal(0, 4, 200)]

    @pytest.mark.usefixtures("needs_compiler")
    def test_several_outputs(self, rows, tmp_path):
        y = np.c_[rows[:, 0], 1e-6 * rows[:, 3]]
        model = HanRegressor(width=10, depth=3, members=3, epochs=2, random_state=0).fit(rows, y)
        assert to_onnx(model, tmp_path / "net.onnx").checks
        assert to_c(model, tmp_path / "net").checks

    def test_numbers_that_float32_does_not_hold(self, rows, tmp_path):
        rows = rows * [1, 1, 1, 1e100]
        model = HanClassifier(width=10, depth=3, members=1, epochs=2, random_state=0).fit(rows, rows[:, 1])
        with pytest.raises(ExportError, match=r"the column 'x3' has numbers beyond the range of float32"):
            to_c(model, tmp_path / "net", verified=False)


def test_the_hash_names_the_weights():
    net = HanNet(2, 1, width=3, depth=2)
    before = describe(net).digest
    assert describe(net).digest == before
    nn.init.zeros_(net.layers[-1].bias)
    assert describe(net).digest != before
    assert re.fullmatch("[0-9a-f]{64}", before)


def test_preprocessing_has_the_constants_of_the_estimators():
    from hannet.estimators import features
    from hannet.export import program
    from hannet.tabular import columns

    assert (program.SOFT, program.FAR, program.MISSING) == (features._SOFT, features._FAR, columns.MAX_ABS)


def test_describing_leaves_the_network_as_it_is():
    net = HanNet(2, 1, width=3, depth=2).double().train()
    source = open_source(net)
    source.evaluate(source.rows(3, np.random.default_rng(0)), torch.float32)
    assert net.training
    assert net.layers[0].weight.dtype == torch.float64


def test_vectors_cover_unusual_rows():
    net = open_source(HanNet(2, 1, width=3, depth=2))
    assert targets.VECTORS > 6
    assert (net.rows(targets.VECTORS, np.random.default_rng(0))[0] == 0).all()
