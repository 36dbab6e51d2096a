import shutil

import pytest

from hannet import HanNet
from hannet.export import measure, targets, to_c

pytestmark = pytest.mark.usefixtures("needs_compiler")


@pytest.fixture
def files():
    return targets.prepare(HanNet(5, 2, width=16, depth=3), "net").library.files


@pytest.fixture
def needs_size():
    if not shutil.which("size"):
        pytest.skip("needs size, of binutils")


@pytest.mark.usefixtures("needs_size")
def test_what_this_machine_takes(files):
    here, *others = measure.measure(files, "net", targets.VECTORS)
    assert here.code > 300
    assert here.constants >= 4 * (5 * 16 + 6 * 16 + 2 * 16)
    assert "bytes of code" in here.sentence
    assert all(other.build.startswith("Cortex-M4") for other in others)
    for cost in (here, *others):
        assert cost.stack is None or 0 < cost.stack < 1000
        assert cost.instructions is None or 200 < cost.instructions < 20_000


@pytest.fixture
def only(monkeypatch):
    """Leaves of all programs those that are named, and what takes another's place."""
    which = shutil.which

    def leave(*names, **others):
        monkeypatch.delenv("CC", raising=False)
        found = {**{name: which(name) for name in names}, **others}
        monkeypatch.setattr(measure.shutil, "which", found.get)

    return leave


def test_tools_that_are_missing_are_left_out(files, only):
    only("cc")
    assert measure.measure(files, "net", targets.VECTORS) == []


@pytest.mark.usefixtures("needs_size")
class TestBuilds:
    def test_without_a_simulator(self, files, only):
        only("cc", "size")
        (here,) = measure.measure(files, "net", targets.VECTORS)
        assert here.instructions is None

    def test_that_fail_report_nothing_of_another_machine(self, files, only, tmp_path):
        broken = tmp_path / "broken"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        only("cc", "size", **{"arm-none-eabi-gcc": str(broken), "arm-none-eabi-size": shutil.which("size")})
        (here,) = measure.measure(files, "net", targets.VECTORS)
        assert not here.build.startswith("Cortex")

    def test_by_compilers_that_tell_no_stack(self, files, only, tmp_path):
        wrapper = tmp_path / "wrapper"
        wrapper.write_text('#!/bin/sh\ncase "$*" in *-fstack-usage*) exit 1;; esac\nexec cc "$@"\n')
        wrapper.chmod(0o755)
        only("size", cc=str(wrapper))
        (here,) = measure.measure(files, "net", targets.VECTORS)
        assert here.stack is None
        assert here.code > 300


def test_programs_that_do_not_end_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 0.1)
    assert measure._run(tmp_path, "sleep", "5") == ""


@pytest.mark.usefixtures("needs_size")
def test_reports_have_it(tmp_path):
    report = to_c(HanNet(5, 2, width=16, depth=3), tmp_path / "net")
    assert len(report.to_dict()["machines"]) == len(report.machines) > 0
    text = (tmp_path / "net" / "README.md").read_text()
    for line in report.lines():
        assert f"- {line}\n" in text
