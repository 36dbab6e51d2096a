import json
from pathlib import Path

import pytest

from hannet import HanNet

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_saved_network_becomes_onnx(hannet):
    pytest.importorskip("onnx")
    HanNet(3, 2, width=5, depth=3).save_pretrained("net")
    code, out, err = hannet("export", "net", "--to", "onnx")
    assert (code, err) == (0, "")
    assert "Computes the same as the model: onnx reference, 2,000 rows, largest relative error" in out
    assert Path("net.onnx").is_file()
    code, _, err = hannet("export", "net", "--to", "onnx")
    assert code == 1
    assert err == "hannet: net.onnx exists already: --force replaces it\n"
    assert hannet("export", "net", "--to", "onnx", "--force")[0] == 0


def test_a_saved_network_becomes_c(hannet):
    HanNet(3, 2, width=5, depth=3).save_pretrained("my-net")
    code, out, _ = hannet("export", "my-net", "--to", "c", "--no-verify", "--json")
    report = json.loads(out)
    assert code == 0
    assert not report["verified"]
    assert report["files"][0] == "my-net-c/my_net.h"
    assert Path("my-net-c/my_net.c").is_file()


def test_a_name_names_the_folder_too(hannet, needs_compiler):
    HanNet(4, 2, width=8, depth=2).save_pretrained("net")
    assert hannet("export", "net", "--to", "c", "--name", "pump", "--no-verify")[0] == 0
    assert Path("pump-c/pump.h").exists()


def test_a_network_in_integers_says_what_is_proven(hannet, needs_compiler):
    HanNet(3, 2, width=5, depth=3).save_pretrained("net")
    code, out, _ = hannet("export", "net", "--to", "c", "--dtype", "int16", "--range", "-3,3")
    assert code == 0
    assert "C99 in int16 of HanNet" in out
    assert "proven for any row" in out
    assert "int net_certify(" in Path("net-c/net.h").read_text()


@pytest.mark.parametrize(("to", "written"), [("wasm", "my-net-wasm/my_net.wasm"), ("web", "my-net.html")])
@pytest.mark.usefixtures("needs_wasm_compiler")
def test_a_saved_network_runs_in_browsers(hannet, to, written):
    HanNet(3, 2, width=5, depth=3).save_pretrained("my-net")
    code, out, _ = hannet("export", "my-net", "--to", to, "--no-verify", "--json")
    assert code == 0
    assert json.loads(out)["files"][0] == written
    assert Path(written).is_file()


@pytest.mark.slow
def test_a_mixer_that_was_trained_on_pictures_becomes_onnx(hannet, photos):
    pytest.importorskip("onnxscript")
    sizes = ("--width", "16", "--depth", "1", "--size", "16", "--epochs", "1")
    assert hannet("train", "images", str(photos), "--model", "han-mixer", *sizes)[0] == 0
    code, out, err = hannet("export", "hannet-models/photos-han-mixer", "--to", "onnx")
    assert (code, err) == (0, "")
    assert "Computes the same as the model: onnxruntime" in out
    assert Path("photos-han-mixer.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none", "--to", "c"), "none is no folder"),
        ((str(FIXTURES), "--to", "onnx"), "holds no model: it has none of table.json, estimator.json and config.json"),
        ((str(FIXTURES / "hannet"), "--to", "c", "--name", "2nd"), "'2nd' cannot begin names in C"),
        ((str(FIXTURES / "hannet"), "--to", "onnx", "--name", "x"), "not for --to onnx"),
        ((str(FIXTURES / "hannet"), "--to", "onnx", "--dtype", "int8"), "not for --to onnx"),
        ((str(FIXTURES / "hannet"), "--to", "c", "--dtype", "int8"), "give bounds=(low, high), or --range LOW,HIGH"),
        ((str(FIXTURES / "hannet"), "--to", "c", "--dtype", "int8", "--range", "1;2"), "two numbers such as -3,3"),
        ((str(FIXTURES / "hannet"), "--to", "c", "--range", "1,2"), "are for integers"),
        ((str(FIXTURES / "hannet"), "--to", "wasm", "--name", "2nd"), "'2nd' cannot begin names in C"),
        ((str(FIXTURES / "hannet"), "--to", "executorch"), "'executorch' is not"),
        ((str(FIXTURES / "images-han-mixer"), "--to", "c"), "a HanMixer for images can be exported to ONNX only"),
    ],
)
def test_faults_are_one_sentence(hannet, arguments, message):
    code, out, err = hannet("export", *arguments)
    assert code
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())
