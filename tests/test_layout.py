"""The layout stays true: who imports whom, what `import hannet` loads, which names say nothing."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from architecture import FILES, imported, imports, name_of

RANKS = [  # a package imports only from those before it
    *("storage", "reporting", "data", "ops", "functional", "layers", "models", "train", "certify", "attacks"),
    *("surgery", "export", "vision", "estimators", "tabular", "experiments", "cli", "__main__"),
]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_package_imports_only_from_packages_below_it(path):
    here = name_of(path).split(".")[0]
    others = {name.split(".")[0] for name in imported(path)} - {here}
    above = {name for name in others if RANKS.index(name) >= RANKS.index(here)}
    assert not above, f"{name_of(path)} imports from {above}, which the layout puts above {here}"


def test_every_package_has_a_rank():
    assert set(RANKS) == imports().keys()


def test_no_file_imports_itself_by_way_of_others():
    modules = {name_of(path) for path in FILES}
    graph = {name_of(path): imported(path) & modules - {name_of(path)} for path in FILES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_typer_and_rich_stay_in_the_command_line(path):
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert name_of(path).startswith("cli") or not names & {"typer", "rich"}


OPTIONAL = {"numba", "typer", "rich", "matplotlib", "pandas", "sklearn", "onnx", "onnxscript", "triton.language"}


def loaded_by(code: str) -> set[str]:
    """The modules that a program has loaded when it ends."""
    code += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.slow
def test_the_layers_are_free_of_optional_and_slow_packages():
    assert loaded_by("import hannet; hannet.HanNet") & OPTIONAL <= loaded_by("import torch")


def test_pytorch_is_imported_when_it_is_needed():
    unwanted = OPTIONAL | {"torch", "numpy"}
    assert not loaded_by("import hannet; dir(hannet)") & unwanted
    shown = """
import os, sys
from hannet import cli
for words in (["--help"], [], *([name] for _, name, *_ in cli.COMMANDS), ["train", "images"], ["data", "list"], ["data", "get"]):
    sys.argv = ["hannet", *words, *["--help"] * bool(words)]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code
os.environ |= {"_HANNET_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
for line in ("hannet reproduce table12 --dataset", "hannet train images ", "hannet data get "):
    os.environ["COMP_WORDS"] = line
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code
"""
    assert not loaded_by(shown) & (unwanted - {"typer"})


@pytest.mark.slow
def test_public_names_are_there_at_first_use():
    code = """
import hannet
missing = {*hannet.__all__, "functional", "layers", "models", "ops", "HanClassifier", "HanRegressor"} - {*dir(hannet)}
assert not missing, missing
assert hannet.ops.stack and hannet.functional.han_layer
from hannet import *
import pickle
assert type(pickle.loads(pickle.dumps(HanNet(2, 2, 4, 2)))) is hannet.HanNet is hannet.models.HanNet
assert not hasattr(hannet, "HanNets")
"""
    loaded_by(code)
    loaded_by("import torch, hannet; torch.ops.hannet.stack")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_a_telling_name(path):
    assert path.stem not in {"utils", "util", "helpers", "helper", "misc", "common", "core", "tools"}
