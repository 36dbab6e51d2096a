import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import HanMixer, HanNet
from hannet.data import Images
from hannet.data import images as sets
from hannet.vision.evaluation_data import load_points, trained_on
from hannet.vision.preprocessing import FILE, Preprocessing
from pictures_toy import grey16

CLASSES = ("apples", "limes", "plums")


@pytest.fixture
def photos(tmp_path):
    """Three classes of ten pictures, two of which test."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def saved(folder, classes, channels=3, **report):
    torch.manual_seed(0)
    HanMixer(16, 3, channels=(2, 2, 4, 4, 4), han_blocks=1, in_channels=channels).save_pretrained(folder)
    seen = Preprocessing(channels, 16, classes, (0.5,) * channels, (0.25,) * channels)
    (folder / FILE).write_bytes(seen.content())
    if report:
        (folder / "report.json").write_text(json.dumps(report))
    return str(folder)


def test_the_pictures_of_a_networks_training_that_test_are_attacked(hannet, photos, tmp_path):
    model = saved(tmp_path / "net", CLASSES, data=str(photos))
    code, out, err = hannet("attack", model, "--steps", "2", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["data"], facts["points"]) == (str(photos), 6)
    named = json.loads(hannet("attack", model, "--steps", "2", "--json", "--data", str(photos))[1])
    assert named == facts | {"seconds": named["seconds"]}


def test_pictures_of_other_classes_are_one_sentence(hannet, photos, tmp_path):
    code, out, err = hannet("attack", saved(tmp_path / "net", ("a", "b", "c")), "--data", str(photos))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has the classes apples, limes, plums, but" in err
    assert "was trained on a, b, c" in err


def test_a_grey_network_sees_pictures_grey(hannet, photos, tmp_path):
    model = saved(tmp_path / "net", CLASSES, channels=1)
    code, out, err = hannet("attack", model, "--steps", "2", "--json", "--data", str(photos))
    assert code == 0, err
    assert json.loads(out)["points"] == 6


def test_a_set_is_itself_beside_a_folder_of_its_name(hannet, tmp_path, monkeypatch):
    """And classes of a set are compared as those of a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    images = Images(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.arange(4), tuple("0123456789"))
    monkeypatch.setattr(sets, "load", lambda *_: images)
    code, out, err = hannet("attack", saved(tmp_path / "net", CLASSES), "--data", "mnist")
    assert (code, out) == (2, "")
    assert "mnist has the classes 0, 1, 2, 3, 4 and 5 more, but" in err


def test_pictures_for_a_network_without_preprocessing_are_one_sentence(hannet, photos, tmp_path):
    model = saved(tmp_path / "net", CLASSES)
    (tmp_path / "net" / FILE).unlink()
    code, out, err = hannet("attack", model, "--data", str(photos))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has none: give an .npz file" in err


@pytest.mark.parametrize("report", [None, "{", "[]", '{"rows": 3}'])
def test_without_a_report_of_a_training_it_is_mnist(tmp_path, report):
    if report:
        (tmp_path / "report.json").write_text(report)
    assert trained_on(tmp_path) == "mnist"


def test_data_that_went_away_are_one_sentence(hannet, tmp_path):
    code, _, err = hannet("attack", saved(tmp_path / "net", CLASSES, data="gone"))
    assert (code, err.count("\n")) == (2, 1)
    assert "'gone' is neither one of mnist" in err


LAYOUTS = {
    "channels last": (
        (16, 16, 3),
        "x is n x 16 x 16 x 3, but .* n x 3 x 16 x 16: their channels come first, x.transpose",
    ),
    "another size": ((3, 8, 32), "x is n x 3 x 8 x 32, but the network was trained on images of n x 3 x 16 x 16"),
    "flat to a third": ((256,), "x is n x 256, but"),
}


@pytest.mark.parametrize("command", ["attack", "certify"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_with_channels_elsewhere_are_refused(hannet, tmp_path, command, layout):
    """A network on flat pixels would take them, and be right on none."""
    shape, message = LAYOUTS[layout]
    HanNet(768, 3, width=16, depth=2).save_pretrained(tmp_path / "net")
    seen = Preprocessing(3, 16, CLASSES, (0.0,) * 3, (1.0,) * 3, flat=True)
    (tmp_path / "net" / FILE).write_bytes(seen.content())
    np.savez(tmp_path / "some.npz", x=np.random.default_rng(0).random((4, *shape)), y=np.arange(4) % 3)
    code, out, err = hannet(command, str(tmp_path / "net"), "--data", str(tmp_path / "some.npz"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)


@pytest.mark.parametrize("shape", [(3, 16, 16), (768,)])
def test_arrays_as_in_training_or_flat_are_taken(hannet, tmp_path, shape):
    HanNet(768, 3, width=16, depth=2).save_pretrained(tmp_path / "net")
    seen = Preprocessing(3, 16, CLASSES, (0.0,) * 3, (1.0,) * 3, flat=True)
    (tmp_path / "net" / FILE).write_bytes(seen.content())
    np.savez(tmp_path / "some.npz", x=np.random.default_rng(0).random((4, *shape)), y=np.arange(4) % 3)
    assert hannet("attack", str(tmp_path / "net"), "--data", str(tmp_path / "some.npz"), "--steps", "1")[0] == 0


def test_deep_and_linked_pictures_are_attacked_as_they_trained(tmp_path):
    folder = Path(saved(tmp_path / "net", ("cold", "warm")))
    seen = replace(Preprocessing.load(folder), pixel_range=(1030.0, 1259.0))
    (folder / FILE).write_bytes(seen.content())
    for name, value in (("cold", 1030), ("warm", 1259)):
        for place in range(5):
            grey16(tmp_path / "elsewhere" / f"{name}{place}.png", [[value] * 4] * 4)
            (tmp_path / "deep" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "deep" / name / f"{place}.png").symlink_to(tmp_path / "elsewhere" / f"{name}{place}.png")
    x, y, *_ = load_points(folder, str(tmp_path / "deep"), None, exactly=False)
    assert torch.equal(x[:, 0, 0, 0], y.float())


def test_broken_pictures_are_an_error_or_are_left_out_and_told(hannet, photos, tmp_path):
    model = saved(tmp_path / "net", CLASSES)
    for path in sorted((photos / "limes").iterdir()):  # until one that tests is broken
        content = path.read_bytes()
        path.write_bytes(b"no picture")
        if sets.folder(photos, 16, "test", skip_broken=1.0).broken:
            break
        path.write_bytes(content)
    code, out, err = hannet("attack", model, "--data", str(photos))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith("--skip-broken leaves them out\n")
    found = json.loads(
        hannet("attack", model, "--data", str(photos), "--steps", "1", "--json", "--skip-broken", "0.5")[1]
    )
    assert found["points"] == 5
    assert any("1 of 6 pictures left out" in note for note in found["notes"])
    words = hannet("attack", model, "--data", str(photos), "--steps", "1", "--skip-broken", "0.5")[1]
    assert "Note: 1 of 6 pictures left out" in words
