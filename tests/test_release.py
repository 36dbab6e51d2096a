"""What a release rests on: one version, a changelog in its form, pins of everything, forms and workflows that parse."""

import re
import tomllib
from pathlib import Path

import pytest

import hannet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{hannet.__version__}"' in source.read_text()


def test_the_changelog_has_the_form_of_keep_a_changelog():
    version, *others = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    assert version.startswith("[Unreleased]\n")
    assert all(re.match(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d\n", other) for other in others)
    for text in (version, *others):
        titles = re.findall(r"^### (.*)$", text, re.MULTILINE)
        assert len(titles) == len(set(titles))
        assert SECTIONS.issuperset(titles)


def test_every_dependency_is_pinned():
    pins = [plain(pin) for pin in re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)]
    assert len(pins) == len(set(pins))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [PROJECT["project"]["dependencies"], *extras]
    names = {plain(re.match(r"[\w.-]+", requirement)[0]) for some in wanted for requirement in some}
    assert names - {"hannet"} <= set(pins)


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_forms_and_workflows_parse(path):
    found = pytest.importorskip("yaml").safe_load(path.read_text())
    if path.parent.name == "workflows":
        for job in found["jobs"].values():
            assert {"uses"} <= job.keys() or {"steps", "runs-on"} <= job.keys()
        named = re.findall(r"(?<![\w/])(?:\.ci|\.github|tests)/[\w./]+", path.read_text().replace(" ./", " "))
        assert all((ROOT / name).exists() for name in named)
    elif path.name != "config.yml":
        assert {"name", "description", "body"} <= found.keys()
        assert all(part["attributes"]["label"] for part in found["body"])


def test_what_is_published_has_passed_the_tests():
    """A job that publish.yml takes from tests.yml, which must allow that; PyYAML reads the key `on` as true."""
    yaml = pytest.importorskip("yaml")
    publish, tests = (
        yaml.safe_load((ROOT / ".github/workflows" / name).read_text()) for name in ("publish.yml", "tests.yml")
    )
    called = {name for name, job in publish["jobs"].items() if job.get("uses") == "./.github/workflows/tests.yml"}
    assert called
    assert called < {*publish["jobs"]["publish"]["needs"]}
    assert "workflow_call" in tests[True]


def test_the_citation_parses():
    citation = pytest.importorskip("yaml").safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
