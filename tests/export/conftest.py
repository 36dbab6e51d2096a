"""A table with all that a column may be but a date, and models of it."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from hannet.export import ExportError, wasm_runtimes
from hannet.tabular.readers import Table
from tabular_toy import learn


def make_table(count=300):
    rng = np.random.default_rng(0)
    cells = {
        "rooms": [str(value) if rng.random() > 0.1 else "" for value in rng.integers(1, 6, count)],
        "area": [f"{value:.3f}" for value in rng.normal(1e4, 3, count)],
        "city": rng.choice(["Köln", "a@b", "NA", 'c*/"d?', ""], count),
        "street": [f"s{int(value)}" for value in rng.exponential(30, count)],
        "garden": rng.choice(["yes", "no"], count),
        "price": [f"{value:.2f}" for value in rng.normal(size=count) * 1000 + 2e5],
        "color": rng.choice(["red?", 'gr"een', "bl@ue"], count),
    }
    return Table(pd.DataFrame({name: pd.Series(list(map(str, values)), dtype="str") for name, values in cells.items()}))


@pytest.fixture(scope="session")
def table_models():
    """Models that predict a number and a class."""
    options = {"members": 2, "epochs": 2, "width": 20, "depth": 3}
    return {target: learn(make_table(), target, options=options)[0] for target in ("price", "color")}


@pytest.fixture
def needs_wasm(needs_wasm_compiler):
    """A compiler for WebAssembly, and something that runs it."""
    try:
        wasm_runtimes.runtimes()
    except ExportError as error:
        pytest.skip(str(error))


@pytest.fixture
def browse(tmp_path):
    """What a page holds once Chromium has run it; its console must be silent."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("needs Chromium")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/profile",
    ]

    def run(page, query="?selftest"):
        command = [program, *options, "--dump-dom", f"file://{page}{query}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return run
