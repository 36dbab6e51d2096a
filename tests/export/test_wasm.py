import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import HanNet
from hannet.certify import certified_radius
from hannet.cli.export import load_model
from hannet.export import ExportError, describe, to_wasm, wasm, wasm_runtimes

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"


def in_node(folder, script):
    """What a program beside the wrapper prints, as JSON."""
    text = f'import {{ load }} from "./net.mjs";\nconst model = await load();\n{script}'
    (folder / "main.mjs").write_text(text, encoding="utf-8")
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def needs_node(needs_wasm):
    if not any(name.startswith("node") for name in wasm_runtimes.runtimes()):
        pytest.skip("needs node")


@pytest.mark.usefixtures("needs_wasm")
class TestComputesTheSame:
    @pytest.mark.parametrize("dtype", ["float32", "int16", "int8"])
    def test_a_network(self, dtype, tmp_path):
        bounds = None if dtype == "float32" else (-2.0, 2.0)
        report = to_wasm(HanNet(7, 3, width=20, depth=4), tmp_path / "net", dtype=dtype, bounds=bounds)
        assert len(report.checks) == len(wasm_runtimes.runtimes())
        assert {Path(file).name for file in report.files} == {"model.wasm", "model.mjs", "model.d.mts"}
        assert report.facts["wasm_bytes"] == (tmp_path / "net" / "model.wasm").stat().st_size

    def test_a_name_that_the_runner_uses_itself(self, tmp_path):
        assert to_wasm(HanNet(2, 1, width=3, depth=2), tmp_path / "net", name="EXACT").checks

    @pytest.mark.slow
    @pytest.mark.parametrize(("folder", "dtype"), [("classifier", "float32"), ("images-hannet", "int16")])
    def test_a_saved_model(self, folder, dtype, tmp_path):
        assert to_wasm(load_model(FIXTURES / folder), tmp_path / "net", dtype=dtype).checks

    @pytest.mark.slow
    @pytest.mark.parametrize(("target", "dtype"), [("price", "int16"), ("color", "float32")])
    def test_a_table(self, target, dtype, table_models, tmp_path):
        assert to_wasm(table_models[target], tmp_path / "net", dtype=dtype).checks


@pytest.mark.usefixtures("needs_node")
class TestWrapper:
    def test_rows_by_name_and_in_order(self, table_models, tmp_path):
        to_wasm(table_models["color"], tmp_path / "net", name="net", verified=False)
        names = [column.name for column in describe(table_models["color"]).inputs.columns]
        named = {"city": " Köln ", "rooms": 3, "area": "10000.5", "street": "never seen"}
        missing = {**dict.fromkeys(names), "city": "nA"}
        found = in_node(
            tmp_path / "net",
            f"""const [named, missing, names] = {json.dumps([named, missing, names])};
            const lists = [named, missing].map((row) => names.map((name) => row[name]));
            const rows = [named, missing, ...lists, {{ ...named, rooms: Infinity }}, {{ ...named, rooms: "" }}];
            const faults = [[1, 2]].map((row) => {{ try {{ model.predict(row); }} catch (error) {{ return String(error); }} }});
            console.log(JSON.stringify([rows.map((row) => [...model.predict(row)]), faults, model.classes, model.columns]));""",
        )
        outputs, faults, classes, columns = found
        np.testing.assert_array_equal(outputs[:2], outputs[2:4])
        assert outputs[4] == outputs[5] != outputs[0]
        assert faults == [f"TypeError: a row has {len(names)} values, got 2"]
        assert classes == list(describe(table_models["color"]).output.classes)
        assert [column["name"] for column in columns] == names

    def test_radii_and_integers(self, tmp_path):
        net = HanNet(6, 4, width=10, depth=3, lipschitz=True)
        to_wasm(net, tmp_path / "net", name="net", dtype="int16", bounds=(-2.0, 2.0), verified=False)
        row = np.linspace(-1, 1, 6, dtype=np.float32)
        script = f"const {{ out, radius }} = model.certify({row.tolist()});\n"
        script += """
        const fault = (row) => { try { model.certify(row); } catch (error) { return String(error); } };
        console.log(JSON.stringify([[...out], radius, [...model.integers()], fault([1, 2, NaN, 0, 0, 0])]));"""
        out, radius, integers, fault = in_node(tmp_path / "net", script)
        unit = out[0] / integers[0]
        np.testing.assert_allclose(out, unit * np.array(integers), rtol=1e-6)
        (expected,) = certified_radius(net.double(), torch.from_numpy(row)[None].double()).tolist()
        assert 0 < radius == pytest.approx(expected, abs=2e-3)
        assert fault == "RangeError: a number of the row is missing or infinite"

    def test_what_floats_do_not_have(self, tmp_path):
        to_wasm(HanNet(2, 3, width=4, depth=2), tmp_path / "net", name="net", verified=False)
        script = """const fault = (call) => { try { call(); } catch (error) { return String(error); } };
        console.log(JSON.stringify([fault(() => model.certify([1, 2])), fault(() => model.integers())]));"""
        faults = in_node(tmp_path / "net", script)
        assert faults == [
            "TypeError: this model certifies no radius",
            "TypeError: this model computes in floating point",
        ]

    def test_dates(self, tmp_path):
        to_wasm(load_model(FIXTURES / "table"), tmp_path / "net", name="net", verified=False)
        script = """const dates = [12555.5, "2004-05-17T12:00",
          "2004-05-17 12:00:00Z", new Date(12555.5 * 864e5), 12555, "2004-05-17", null, "", "soon"];
        console.log(JSON.stringify(dates.map((built) => model.predict({ built, size: 1, colour: "red" })[0])));"""
        *same, number, date, missing, empty, wrong = in_node(tmp_path / "net", script)
        assert len({*same}) == 1
        assert number == date != same[0]
        assert missing == empty == wrong != number


class TestRefuses:
    def test_without_a_compiler(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ExportError, match=r"needs clang with the target wasm32, and lld beside it: apt install"):
            to_wasm(HanNet(2, 1, width=3, depth=2), tmp_path / "net")

    def test_a_compiler_of_other_targets(self, tmp_path, monkeypatch):
        (tmp_path / "clang").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "clang").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
        with pytest.raises(ExportError, match="needs clang with the target wasm32"):
            wasm.compiler()

    def test_without_a_runtime(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hannet.export.wasm_runtimes.shutil.which", lambda _: None)
        monkeypatch.setitem(sys.modules, "wasmtime", None)
        monkeypatch.setattr("hannet.export.targets.wasm.compile_wasm", lambda *_: b"")
        with pytest.raises(ExportError, match=r"needs node or wasmtime: pip install wasmtime; --no-verify"):
            to_wasm(HanNet(2, 1, width=3, depth=2), tmp_path / "net")

    def test_a_folder_that_no_export_wrote(self, tmp_path):
        (tmp_path / "mine").touch()
        with pytest.raises(ExportError, match="holds files that no export wrote"):
            to_wasm(HanNet(2, 1, width=3, depth=2), tmp_path, force=True)


def test_texts_cannot_leave_comments():
    interface = {"kind": "a\n*/\u2028b", "shape": None, "inputs": 2}
    for content in wasm.wrapper(interface, "net").values():
        assert content.startswith("// a\\n*/\\u2028b, written by hannet ")
