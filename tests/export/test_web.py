import re
from pathlib import Path

import pytest
import torch

from hannet import HanNet
from hannet.cli.export import load_model
from hannet.export import ExportError, to_web
from hannet.vision.export_source import ImageClassifier
from hannet.vision.preprocessing import Preprocessing

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
EVIL = "</script><img src=x onerror=alert(1)>"
pytestmark = pytest.mark.usefixtures("needs_wasm")


def digits(classes="0123456789"):
    """A net for grey pictures of 28 x 28, which certifies."""
    torch.manual_seed(0)
    network = HanNet(784, len(classes), width=784, depth=2, lipschitz=True)
    return ImageClassifier(network, Preprocessing(1, 28, tuple(classes), (0.0,), (1.0,), flat=True))


def result(page):
    """What a page shows of the prediction, and what its self-test says."""
    shown = page.split("<section", 1)[1].split("</section>", 1)[0]
    return shown, page.split('role="status">', 1)[1].split("<", 1)[0]


def test_a_page_is_whole_and_small(tmp_path):
    report = to_web(digits(), tmp_path / "digits.html", dtype="int16", title="Digits & more")
    text = (tmp_path / "digits.html").read_text()
    assert report.facts["bytes"] == len(text.encode()) < 75_000
    assert report.checks
    assert report.target == "Web page in int16"
    assert "<title>Digits &amp; more</title>" in text
    assert not re.search(r"(src|href)=\"(?!data:)|https?://|@[A-Z]+@", text)


def test_texts_are_never_read_as_html(tmp_path):
    model = digits([EVIL, "b"])
    to_web(model, tmp_path / "page.html", dtype="int16", title=EVIL, verified=False)
    text = (tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert text.count("</script>") == text.count("<script")


def test_too_many_numbers_to_type(tmp_path):
    with pytest.raises(ExportError, match="asks for 64 numbers at most, and this network takes 65"):
        to_web(HanNet(65, 1, width=3, depth=2), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
class TestInChromium:
    def test_a_pad_to_draw_on(self, tmp_path, browse):
        to_web(digits(), tmp_path / "page.html", dtype="int16", verified=False)
        shown, status = result(browse(tmp_path / "page.html"))
        assert status.startswith("Self-test: 6 rows, 0 wrong outputs")
        assert shown.count("<li>") == 10
        assert re.search(r"Certified radius 0\.\d*[1-9]\d*: ", shown)
        assert "Draw one in the square" in result(browse(tmp_path / "page.html", ""))[0]

    @pytest.mark.parametrize("target", ["price", "color"])
    def test_a_form(self, target, table_models, tmp_path, browse):
        to_web(table_models[target], tmp_path / "page.html", verified=False)
        page = browse(tmp_path / "page.html")
        shown, status = result(page)
        assert "0 wrong outputs" in status
        assert "<output>" in shown
        assert "a@b" in page.split("<form", 1)[1].split("</form>", 1)[0]
        assert shown.count("<li>") == (3 if target == "color" else 0)

    def test_an_empty_field_predicts_nothing(self, tmp_path, browse):
        to_web(HanNet(3, 2, width=5, depth=2), tmp_path / "net.html", verified=False)
        text = (tmp_path / "net.html").read_text()
        script = 'const field = document.querySelector("form input"); field.value = "";'
        script += 'field.dispatchEvent(new Event("input", { bubbles: true }));'
        (tmp_path / "empty.html").write_text(text.replace("</body>", f'<script type="module">{script}</script></body>'))
        shown, _ = result(browse(tmp_path / "empty.html", ""))
        assert "Fill in every number." in shown
        assert "<output>" not in shown

    def test_numbers_and_pictures(self, tmp_path, browse):
        to_web(HanNet(3, 2, width=5, depth=2), tmp_path / "net.html", verified=False)
        assert result(browse(tmp_path / "net.html"))[0].count("<output>") == 2
        model = load_model(FIXTURES / "images-hannet")
        to_web(model, tmp_path / "images.html", verified=False)
        page = browse(tmp_path / "images.html")
        assert 'type="file"' in page
        assert "0 wrong outputs" in result(page)[1]

    def test_texts_of_others(self, tmp_path, browse):
        to_web(digits([EVIL, "b"]), tmp_path / "page.html", dtype="int16", title=EVIL, verified=False)
        page = browse(tmp_path / "page.html")
        assert "0 wrong outputs" in result(page)[1]
        assert "<img" not in page
