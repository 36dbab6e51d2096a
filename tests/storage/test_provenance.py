"""What a record says of the code it ran."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import hannet
from hannet.storage import provenance

ROOT = Path(__file__).parents[2]


def test_the_hash_of_the_sources_is_gits(tmp_path):
    sources = tmp_path / "src"
    (sources / "a").mkdir(parents=True)
    (sources / "a.py").write_text("one")  # Git sorts a folder as if its name ended in a slash: a.py, then a
    (sources / "a" / "b.toml").write_text("two")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    git("add", "src")
    expected = git("rev-parse", f"{git('write-tree')}:src")
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (sources / ".hidden").write_text("an editor's")
    assert provenance._tree_hash(sources).hex() == expected
    (sources / "a" / "b.toml").write_text("three")
    assert provenance._tree_hash(sources).hex() != expected


def test_the_hash_is_that_of_this_package():
    assert provenance._tree_hash(ROOT / "src" / "hannet").hex()[:12] == provenance.source_hash()


def test_versions_name_an_optional_package_once_it_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    assert set(provenance.versions()) >= {"python", "hannet", "torch", "numba", "numpy"}
    assert "scikit-learn" not in provenance.versions()
    pytest.importorskip("sklearn")
    assert provenance.versions()["scikit-learn"]


COMPUTE_NOTHING = {
    "atheris",
    "distributed",
    "filelock",
    "huggingface_hub",
    "matplotlib",
    "pooch",
    "psutil",
    "requests",
    "rich",
}
COMPUTE_NOTHING |= {"jinja2", "safetensors", "typer"}


def test_every_package_that_computes_is_named():
    named = {*provenance._ALWAYS, *provenance._IF_IMPORTED.values()}
    own = {"hannet", *(path.stem for path in (ROOT / "benchmarks").rglob("*.py"))}
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module))
        packages = {name.split(".")[0] for name in names} - own - sys.stdlib_module_names
        assert packages <= named | COMPUTE_NOTHING, path


def test_a_module_without_a_distribution_has_no_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "a_module", sys)
    monkeypatch.setitem(provenance._IF_IMPORTED, "no-such-distribution", "a_module")
    assert "no-such-distribution" not in provenance.versions()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor : 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: EPYC\n\nmodel : 1",
            "AuthenticAMD 25.17",
        ),
        ("processor : 0\nCPU implementer : 0x41\n", ""),
    ],
)
def test_the_processor_is_named_by_family_and_model(text, expected, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert provenance._processor.__wrapped__() == expected


def test_versions_of_sources_that_are_not_installed(monkeypatch):
    def version(name):
        if name == "hannet":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(provenance, "_version", version)
    assert provenance.versions()["hannet"] == hannet.__version__
