import csv
import json
import os
from pathlib import Path

import pytest
import torch

from hannet.models import FCNet, HanMixer
from hannet.vision.preprocessing import FILE, Preprocessing
from pictures_toy import grey16

Image = pytest.importorskip("PIL.Image")
CLASSES = ("cat", "dog", "owl", "yak")


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "model"
    HanMixer(16, 4, channels=(4, 4, 8, 8, 8), han_blocks=2).save_pretrained(folder)
    told = Preprocessing(3, 16, CLASSES, (0.5,) * 3, (0.25,) * 3)
    (folder / FILE).write_bytes(told.content())
    return folder


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {"a.png": "red", "b.jpg": "green", "c.webp": "blue"}.items():
        Image.new("RGB", (40, 30), colour).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_one_picture(hannet, model, pictures):
    code, out, err = hannet("predict", str(model), str(pictures / "a.png"))
    assert (code, err) == (0, "")
    assert "a.png" in out
    assert any(name in out for name in CLASSES)
    assert "%" in out


def test_a_folder_of_pictures_as_json_and_csv(hannet, model, pictures, tmp_path):
    path = tmp_path / "out.csv"
    code, out, _ = hannet("predict", str(model), str(pictures), "--json", "--out", str(path))
    told = json.loads(out)
    assert code == 0
    assert [Path(row["picture"]).name for row in told["pictures"]] == ["a.png", "b.jpg", "c.webp"]
    assert told["faults"] == []
    for row in told["pictures"]:
        assert len(row["classes"]) == len(row["probabilities"]) == 3
        assert row["probabilities"] == sorted(row["probabilities"], reverse=True)
    lines = list(csv.DictReader(path.open()))
    assert [line["class_1"] for line in lines] == [row["classes"][0] for row in told["pictures"]]
    code, _, err = hannet("predict", str(model), str(pictures), "--out", str(path))
    assert (code, err.count("\n")) == (2, 1)
    assert "--force replaces it" in err


def test_a_picture_alone_is_classified_as_in_company(hannet, model, pictures):
    together = json.loads(hannet("predict", str(model), str(pictures), "--json")[1])["pictures"]
    alone = json.loads(hannet("predict", str(model), str(pictures / "b.jpg"), "--json")[1])["pictures"]
    assert alone[0]["classes"] == together[1]["classes"]
    assert alone[0]["probabilities"] == pytest.approx(together[1]["probabilities"], abs=1e-5)


def test_a_grey_network_sees_luma(hannet, tmp_path, pictures):
    torch.manual_seed(0)
    folder = tmp_path / "grey"
    FCNet(64, 4, width=8, depth=1).save_pretrained(folder)
    (folder / FILE).write_bytes(Preprocessing(1, 8, CLASSES, (0.0,), (1.0,), flat=True).content())
    told = json.loads(hannet("predict", str(folder), str(pictures / "a.png"), "--json")[1])["pictures"][0]
    network = FCNet.from_pretrained(folder)
    shares = network(torch.full((1, 64), 76 / 255)).softmax(1)[0]  # 0.299 * 255, rounded
    assert told["probabilities"][0] == pytest.approx(float(shares.detach().max()), abs=1e-6)
    assert told["classes"][0] == CLASSES[int(shares.argmax())]


def test_a_broken_picture_is_named_and_the_others_are_classified(hannet, model, pictures):
    (pictures / "d.png").write_bytes(b"no picture")
    code, out, err = hannet("predict", str(model), str(pictures), "--json")
    told = json.loads(out)
    assert (code, len(told["pictures"]), len(told["faults"])) == (1, 3, 1)
    assert err.count("\n") == 1
    assert "d.png" in err


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names of files are text")
def test_names_that_are_no_text_come_through(hannet, model, pictures, tmp_path):
    odd = os.fsdecode(os.fsencode(pictures) + b"/\xff.png")
    os.rename(pictures / "a.png", odd)  # noqa: PTH104
    code, out, _ = hannet("predict", str(model), odd, "--out", str(tmp_path / "out.csv"))
    assert code == 0
    assert "\ufffd.png" in out
    assert b"/\xff.png," in (tmp_path / "out.csv").read_bytes()
    assert json.loads(hannet("predict", str(model), odd, "--json")[1])["pictures"][0]["picture"] == odd


FAULTS = {
    "a missing picture": (["none.png"], 1, "none.png does not exist"),
    "a folder of none": ([str(Path(__file__).parents[2] / "src")], 2, "holds no pictures"),
    "nothing": ([], 2, "inputs"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence(hannet, model, case):
    inputs, expected, part = FAULTS[case]
    code, out, err = hannet("predict", str(model), *inputs)
    assert (code, out, err.count("\n")) == (expected, "", 1)
    assert part in err


def test_preprocessing_that_does_not_fit_is_one_sentence(hannet, model, pictures):
    for told in (
        Preprocessing(3, 16, CLASSES[:3], (0.5,) * 3, (0.25,) * 3),
        Preprocessing(3, 24, CLASSES, (0.5,) * 3, (0.25,) * 3),
        Preprocessing(3, 16, CLASSES, (0.0,) * 3, (1.0,) * 3, flat=True),
    ):
        (model / FILE).write_bytes(told.content())
        code, out, err = hannet("predict", str(model), str(pictures / "a.png"))
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert FILE in err


def test_a_table_is_still_one_table(hannet, tmp_path):
    code, _, err = hannet("predict", str(tmp_path), "a.csv", "b.csv")
    assert code == 2
    assert "one table at a time" in err


def test_what_systems_leave_is_passed_over_and_told(hannet, model, pictures):
    for name in ("._a.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (pictures / name).write_bytes(b"no picture")
    (pictures / "@eaDir").mkdir()
    (pictures / "more").mkdir()
    code, out, _ = hannet("predict", str(model), str(pictures), "--json")
    told = json.loads(out)
    assert (code, len(told["pictures"]), told["faults"]) == (0, 3, [])
    assert told["notes"] == [
        f"{pictures}: 1 left out that is no picture (1 .txt)",
        f"{pictures}: 5 hidden or left by an operating system, passed over",
        f"{pictures}: 1 folder inside, not looked into: name them too",
    ]
    assert "Note: " in hannet("predict", str(model), str(pictures))[1]


@pytest.mark.parametrize(("pixel_range", "level"), [(None, 4), ((1030.0, 1259.0), 128)])
def test_the_range_is_that_of_training_and_what_it_does_not_fit_is_told(hannet, tmp_path, pixel_range, level):
    torch.manual_seed(0)
    folder = tmp_path / "grey"
    FCNet(64, 4, width=8, depth=1).save_pretrained(folder)
    kept = Preprocessing(1, 8, CLASSES, (0.0,), (1.0,), flat=True, pixel_range=pixel_range)
    (folder / FILE).write_bytes(kept.content())
    grey16(tmp_path / "deep.png", [[1145] * 8] * 8)
    grey16(tmp_path / "dark.png", [[10] * 8] * 8)
    Image.new("L", (8, 8), 77).save(tmp_path / "shallow.png")
    inputs = [str(tmp_path / f"{name}.png") for name in ("deep", "dark", "shallow")]
    told = json.loads(hannet("predict", str(folder), *inputs, "--json")[1])
    shares = FCNet.from_pretrained(folder)(torch.full((1, 64), level / 255)).softmax(1)[0]
    assert told["pictures"][0]["probabilities"][0] == pytest.approx(float(shares.detach().max()), abs=1e-6)
    if pixel_range:
        assert told["notes"] == [
            "1 mostly darker or lighter than all that trained the model",
            "1 of 8 bits a channel, taken as they are, though deeper pictures trained the model",
        ]
    else:
        assert told["notes"] == ["2 of which only the upper 8 bits a channel count, as in training"]


def test_names_steer_neither_the_terminal_nor_a_spreadsheet(hannet, model, pictures, tmp_path, monkeypatch):
    (pictures / "a.png").rename(pictures / "=1+1\x1b[2J.png")
    monkeypatch.chdir(pictures)
    out_file = tmp_path / "out.csv"
    code, out, _ = hannet("predict", str(model), "=1+1\x1b[2J.png", "--safe-csv", "--out", str(out_file))
    assert code == 0
    assert "\x1b" not in out
    assert "=1+1\\x1b[2J.png" in out
    assert [row["picture"] for row in csv.DictReader(out_file.open())] == ["'=1+1\x1b[2J.png"]
    hannet("predict", str(model), "=1+1\x1b[2J.png", "--force", "--out", str(out_file))
    assert [row["picture"] for row in csv.DictReader(out_file.open())] == ["=1+1\x1b[2J.png"]
    code, _, err = hannet("predict", str(model), "\x1b]0;mine\x07\n.png")
    assert (code, err) == (1, "hannet: \\x1b]0;mine\\x07\\n.png does not exist\n")
