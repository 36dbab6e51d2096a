import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import HanNet
from hannet.reporting.html import ReportError
from hannet.vision.page import CERTIFICATE, page_of, save_certificate, trained_page
from html_pages import parse

OLD = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0" / "images-hannet"
EVIL = "<script>alert(1)</script>"


def facts():
    """A report in which a folder and a class are named by somebody who means harm."""
    known = json.loads((OLD / "report.json").read_text())
    return known | {
        "data": EVIL,
        "classes": ["limes", EVIL],
        "confusion": [[6, 2], [0, 4]],
        "training_counts": [30, 6],
        "images": {"train": 36, "validation": 3, "test": 12},
        "test_accuracy": 10 / 12,
        "notes": [EVIL],
        "command": f"hannet train images '{EVIL}'",
    }


CERTIFIED = {
    "data": EVIL,
    "points": 40,
    "computed_in": "float64",
    "lipschitz_bound": 1.0,
    "accuracy": 0.75,
    "certified_accuracy": {"0.5": 0.5, "1.58": 0.25},
    "median_radius": None,
    "most_frequent": 0.4,
    "command": "hannet certify",
}


@pytest.fixture
def network(tmp_path):
    """The folder of a network."""
    HanNet(in_features=4, out_features=2, width=4, depth=2).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_the_page_of_a_training_says_what_a_person_asks():
    page = trained_page(facts(), f"models/{EVIL}", {"curves.svg": b"<svg/>"}).render()
    found = parse(page)
    assert EVIL not in page
    assert (
        f"Classifier of images: {EVIL} 83.3% accuracy on 12 test images; 95% interval 55.2%–95.3% (Wilson)."
        in found.text
    )
    assert "Always predicting the most frequent class of the training: 66.7%." in found.text
    assert f"limes 30 8 75.0% {EVIL} (2) {EVIL} 6 4 100.0% –" in found.text
    assert f"hannet predict 'models/{EVIL}' IMAGE.png" in found.text
    assert "seed 0 recipe optimizer adam, lr 0.001" in found.text
    assert len(found.loads) == 1


def test_many_classes_are_cut_and_counted():
    names = [f"k{number}" for number in range(1000)]
    page = trained_page(facts() | {"classes": names, "confusion": None}, "net", {}).render()
    assert "classes 1,000: k0, k1," in parse(page).text
    assert "k49 and 950 more" in parse(page).text
    assert "k50" not in parse(page).text


def test_a_folder_of_the_first_version_has_a_page():
    found = parse(page_of(OLD).render())
    assert "100.0% accuracy on 9 test images" in found.text
    assert "Class by class" not in found.text


def test_a_certificate_stands_alone_or_beside_the_training(network):
    path = save_certificate(network, CERTIFIED, {"svg": b"<svg/>", "png": b""})
    found = parse(path.read_text())
    assert path == network / "report.html"
    assert EVIL not in path.read_text()
    assert "50.0% of 40 points of" in found.text
    assert (
        "no change of l2 norm 0.5 or less can alter it: proved, as computed in float64; 95% interval 35.2%–64.8%"
        in found.text
    )
    assert "right, and provably so within 1.58 25.0%" in found.text
    assert "right, if every point is given the most frequent class 40.0%" in found.text
    (network / "report.json").write_text(json.dumps(facts()))
    both = parse(page_of(network).render()).text
    assert "83.3% accuracy on 12 test images" in both
    assert "Certificate: proved 50.0% of 40 points" in both


def test_a_certificate_of_other_weights_is_not_shown(network):
    save_certificate(network, CERTIFIED, {})
    HanNet(in_features=4, out_features=2, width=4, depth=2).save_pretrained(network)
    with pytest.raises(ReportError, match=r"holds neither report.json nor a certificate"):
        page_of(network)
    (network / "report.json").write_text(json.dumps(facts()))
    assert "Certificate" not in parse(page_of(network).render()).text


def test_the_lines_that_use_a_certified_network_run(network, tmp_path):
    np.savez(tmp_path / "some.npz", x=torch.rand(12, 4).numpy(), y=np.arange(12) % 2)
    save_certificate(network, CERTIFIED | {"data": str(tmp_path / "some.npz")}, {})
    (code,) = (block for part in page_of(network).sections for block in part.code if "certified_radius" in block)
    with redirect_stdout(StringIO()) as told:
        exec(compile(code, "page", "exec"), {})  # noqa: S102 - our own lines
    assert told.getvalue().startswith("tensor([")


@pytest.mark.parametrize("damage", [{"images": 3}, {"classes": None}, {"test_accuracy": "high"}, {"confusion": [[1]]}])
def test_a_damaged_report_is_one_sentence(tmp_path, damage):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    (tmp_path / "report.json").write_text(json.dumps(facts() | damage))
    with pytest.raises(ReportError, match="not written by `hannet train images`, or damaged"):
        page_of(tmp_path)


def test_a_damaged_certificate_is_one_sentence(network):
    (network / f"{CERTIFICATE}.json").write_text("[]")
    with pytest.raises(ReportError, match=r"certificate\.json: damaged"):
        page_of(network)
