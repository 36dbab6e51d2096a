"""Short forms of the campaign's programs: of those that need seconds. The others start commands anew, which takes minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRUST = Path(__file__).parents[2] / "benchmarks" / "trust"
NEEDS = {"fuzz": "atheris"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and limits of Linux")
@pytest.mark.parametrize("name", ["fuzz", "soundness"])
def test_the_short_form_of_a_campaign_finds_no_fault_and_leaves_a_record(name, tmp_path):
    pytest.importorskip(NEEDS.get(name, "sklearn"))
    command = [sys.executable, str(TRUST / f"{name}.py"), "--quick", "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (record,) = map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())
    assert record["experiment"] == f"trust {name.replace('_', ' ')}"
