import shutil

import pytest

from hannet import HanNet
from hannet.export import measure, targets, to_c
from hannet.export.sources import open_source

pytestmark = pytest.mark.usefixtures("needs_compiler")


@pytest.fixture
def files():
    return targets._make(open_source(HanNet(5, 2, width=16, depth=3)), "net", "float32", None).library.files


def test_what_this_machine_takes(files):
    if not shutil.which("size"):
        pytest.skip("needs size, of binutils")
    here, *others = measure.measure(files, "net", targets.VECTORS)
    assert here.code > 300
    assert here.constants >= 4 * (5 * 16 + 6 * 16 + 2 * 16)
    assert "bytes of code" in here.sentence
    assert all(other.build.startswith("Cortex-M4") for other in others)
    for cost in (here, *others):
        assert cost.stack is None or 0 < cost.stack < 1000
        assert cost.instructions is None or 200 < cost.instructions < 20_000


def test_tools_that_are_missing_are_left_out(files, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(measure.shutil, "which", lambda name: which(name) if name in ("cc", "size") else None)
    (here,) = measure.measure(files, "net", targets.VECTORS)
    assert here.instructions is None
    monkeypatch.setattr(measure.shutil, "which", lambda name: which(name) if name == "cc" else None)
    assert measure.measure(files, "net", targets.VECTORS) == []


def test_programs_that_do_not_end_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 0.1)
    assert measure._run(tmp_path, "sleep", "5") == ""


def test_reports_have_it(tmp_path):
    report = to_c(HanNet(5, 2, width=16, depth=3), tmp_path / "net")
    assert len(report.to_dict()["machines"]) == len(report.machines)
    text = (tmp_path / "net" / "README.md").read_text()
    for line in report.lines():
        assert f"- {line}\n" in text
