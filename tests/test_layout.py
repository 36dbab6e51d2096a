"""The layout stays true: who imports whom, what `import hannet` loads, which names say nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "hannet"
# From the ground up: a file imports only from files before it. A folder's __init__ may be imported by its own files.
ORDER = [
    "subnormals",
    "reference", "kernels", "kernels.simd", "kernels.passes", "kernels.cpu", "kernels.sorts", "kernels.tiles", "kernels.cuda",
    "ops", "functional", "layers",
    "models.folder", "models.hannet", "models.baselines", "models.vision", "models.mixer", "models.mobilevit", "models.load", "models",
    "certify", "surgery", "export",
    "data", "data.synthetic", "data.archives", "data.fetch", "data.regression", "data.image_sets",
    "data.idx", "data.binaries", "data.pictures", "data.images", "attacks", "losses", "augment", "recipes", "optimizers", "steps",
    "members", "defences", "graphs", "train", "runs", "folders", "listing", "rows", "saved", "estimators", "experiments",
    "preprocessing", "checkpoints", "joint", "image_batches", "image_loop",
    "experiments.board", "experiments.mnist", "experiments.vision", "experiments.*", "agenda", "cluster", "sweep", "report",
    "tables", "columns", "compare", "predictor", "fit", "console", "reproduction", "points", "robustness", "datasets",
    "image_networks", "row_training", "image_training", "classification", "cli",
]  # fmt: skip
SAME_DATA = {  # an experiment may take another's data and splits
    "experiments.checkerboard_baselines": {"experiments.figure1"},
    "experiments.recipe": {"experiments.figure1"},
    "experiments.smallest": {"experiments.figure1"},
    "experiments.figure6_full": {"experiments.figure6"},
    "experiments.table2": {"experiments.figure3"},
    "experiments.table14": {"experiments.table12"},
    "experiments.tabular": {"experiments.table9"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def place(name: str) -> int:
    if name not in ORDER and name.startswith("experiments."):
        name = "experiments.*"
    assert name in ORDER, f"{name} has no place in the layout: give it one here and in the design"
    return ORDER.index(name)


def imported(path: Path) -> set[str]:
    """Names of the package's modules that a file imports, at any depth of its code."""
    here = PACKAGE.parent / path.relative_to(PACKAGE.parent)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("hannet.") for alias in node.names if alias.name.startswith("hannet.")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "hannet"):
            base = here.parents[node.level - 1] if node.level else PACKAGE.parent
            base = base.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                target = base / alias.name
                is_module = target.with_suffix(".py").is_file() or target.is_dir()
                found.add(".".join((target if is_module else base).relative_to(PACKAGE).parts))
    return found - {""}


@pytest.mark.parametrize("path", [path for path in FILES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_a_file_imports_only_from_files_above_it(path):
    here = name_of(path)
    allowed = SAME_DATA.get(here, set())
    late = {name for name in imported(path) - allowed if place(name) >= place(here)}
    assert not late, f"{name_of(path)} imports {late}, which the layout lists below it"


def test_the_import_rule_sees_imports():
    assert {"experiments", "runs", "data.synthetic", "models.hannet"} <= imported(PACKAGE / "experiments" / "board.py")


def test_import_is_free_of_optional_and_slow_packages():
    unwanted = ["numba", "typer", "rich", "matplotlib", "pandas", "sklearn", "onnx", "onnxscript", "triton.language"]
    code = f"import sys, hannet; print(*[name for name in {unwanted} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    alone = f"import sys, torch; print(*[name for name in {unwanted} if name in sys.modules])"
    with_torch = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) <= set(with_torch)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_a_telling_name(path):
    assert path.stem not in {"utils", "util", "helpers", "helper", "misc", "common", "base", "core", "tools"}
