"""Ctrl-C while the command `hannet` starts."""

import subprocess
import sys

import pytest

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
