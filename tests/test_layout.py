"""The layout stays true: what `import hannet` loads, which names say nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "hannet"
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


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
    assert path.stem not in {"utils", "util", "helpers", "helper", "misc", "common", "core", "tools"}
