"""The diagram of the packages is that of the code."""

from pathlib import Path

import architecture

ROOT = Path(__file__).parents[2]


def test_the_diagram_is_that_of_the_code():
    shown = (ROOT / "docs" / "architecture.svg").read_text()
    assert shown == architecture.diagram(architecture.imports()), "python docs/architecture.py draws it again"


def test_imports_are_seen_in_any_form_and_at_any_depth(monkeypatch, tmp_path):
    monkeypatch.setattr(architecture, "PACKAGE", tmp_path / "hannet")
    path = tmp_path / "hannet" / "cli" / "fit.py"
    for module in ("storage/files", "ops/__init__", "cli/x", "train/trainer", "data/images", "models/hannet"):
        file = path.parents[1] / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    path.write_text(
        "from ..storage import files\nfrom .. import ops\nfrom . import x\nimport hannet.train.trainer, torch\n"
        "def f():\n    from hannet.data.images import load\n    from ..models.hannet import HanNet as Net"
    )
    expected = {"storage.files", "ops", "cli.x", "train.trainer", "data.images", "models.hannet"}
    assert architecture.imported(path) == expected


def test_arrows_leave_out_what_follows_from_others():
    graph = {"cli": {"train", "ops"}, "train": {"ops"}, "ops": set()}
    assert architecture.direct(graph) == {"cli": {"train"}, "train": {"ops"}, "ops": set()}
    assert architecture.levels(graph) == [["cli"], ["train"], ["ops"]]


def test_the_page_names_every_package():
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert not {name for name in architecture.imports() if f"`{name}`" not in page}


def test_arrows_pass_beside_the_boxes_between():
    graph = {"top": {"middle", "other"}, "middle": {"low"}, "low": set(), "other": set()}
    rows, ways = architecture.arranged(architecture.levels(graph), architecture.direct(graph))
    (way,) = [way for way in ways if way[-1] == "other"]
    assert len(way) == len(rows)
    assert all(place in row for place, row in zip(way, rows, strict=True))
