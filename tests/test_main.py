"""What the command `hannet` does before its work begins: Ctrl-C, and how its threads will wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hannet

PROGRAM = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.argv[1:] = ["info"]
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, {handler})
from hannet.__main__ import main
main()
"""


def interrupted(module: str, handler: str = "signal.default_int_handler") -> subprocess.CompletedProcess[str]:
    """`hannet info`, interrupted when it begins to import a module."""
    code = PROGRAM.format(module=module, handler=handler)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "module",
    [
        *("hannet.cli", "typer", "hannet.cli.train", "torch"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch.nn", "hannet.ops.dispatch")),
    ],
)
def test_ctrl_c_is_one_line_or_none(module):
    result = interrupted(module)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr in ("hannet: interrupted\n", "")


@pytest.mark.slow
def test_where_ctrl_c_is_ignored_it_stays_so():
    result = interrupted("typer", "signal.SIG_IGN")
    assert (result.returncode, result.stderr) == (0, "")


SPIN = """
import os, sys

class Reads:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.argv[1:] = ["info"]
sys.meta_path.insert(0, Reads())
from hannet.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["default", "count", "policy"],
)
def test_threads_that_wait_sleep_soon_unless_the_user_has_said_how_they_wait(given, count):
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    run = subprocess.run([sys.executable, "-c", SPIN], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split() == [count]


def test_next_to_nothing_is_loaded_before_ctrl_c_is_one_line():
    code = "import sys; sys.path[:0] = sys.argv[1:]; before = {*sys.modules}; import hannet.__main__; print(*{*sys.modules} - before)"
    source = str(Path(hannet.__file__).parents[1])
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True, check=True)
    assert "hannet.__main__" in run.stdout.split()
    assert not {"typing", "re", "pathlib", "hannet.cli"} & {*run.stdout.split()}
