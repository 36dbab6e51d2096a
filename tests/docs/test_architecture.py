"""The diagram of the packages is that of the code, and agrees with the ranks that the layout has."""

import ast
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture = load(ROOT / "docs" / "hooks" / "architecture.py")


def test_the_diagram_is_that_of_the_code():
    shown = (ROOT / "docs" / "architecture.svg").read_text()
    assert shown == architecture.diagram(architecture.imports()), "python docs/hooks/architecture.py draws it again"


def test_arrows_lead_down_the_ranks():
    ranks = load(ROOT / "tests" / "test_layout.py").RANKS
    graph = architecture.imports()
    assert set(ranks) == set(graph)
    assert all(ranks.index(lower) < ranks.index(upper) for upper in graph for lower in graph[upper])


def test_imports_are_seen_at_any_depth():
    code = "from ..storage import files\nfrom .. import ops\nfrom . import x\nimport hannet.train.trainer\nfrom hannet.data import a"
    assert architecture.imported(ast.parse(code), 2) == {"storage", "ops", "train", "data"}


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
