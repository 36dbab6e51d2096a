"""Each tutorial runs from top to bottom, in an empty folder; and every command that any page shows exists, with its options."""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

typer = pytest.importorskip("typer")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(python|sh|c)(?: title=\"(\S+)\")?\n(.*?)```", re.DOTALL)
NEEDS = {"microcontroller.md": "cc", "cluster.md": "dask"}  # commands beside hannet's


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_tutorial_runs(page, tmp_path, monkeypatch):
    """Python in one namespace, as in a notebook; commands in a shell; blocks of C with a title are files."""
    for package in ("sklearn", "pandas", "PIL"):
        pytest.importorskip(package)
    if (command := NEEDS.get(page.name)) and not shutil.which(command):
        pytest.skip(f"needs {command}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    names = {"__name__": page.stem}
    for language, title, code in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)  # noqa: S102
        elif language == "sh":
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        else:
            Path(title).write_text(code)
    assert names["__name__"] == page.stem


def commands():
    """What shell blocks call hannet with: lines joined where they go on, divided at pipes and their like, without comments."""
    for page in PAGES:
        for language, _, code in BLOCK.findall(page.read_text()):
            for line in code.replace("\\\n", " ").splitlines() if language == "sh" else ():
                words = shlex.shlex(line, posix=True, punctuation_chars=True)
                words.whitespace_split = True
                for is_operator, part in groupby(words, lambda word: not word.strip("|&;")):
                    call = list(part)
                    if not is_operator and call[0] == "hannet":
                        yield pytest.param(call[1:], id=f"{page.relative_to(ROOT)}: {' '.join(call)}")


@pytest.mark.parametrize("words", [*commands()])
def test_commands_and_their_options_exist(words):
    from hannet.cli import app

    command, words = typer.main.get_command(app), list(words)
    while (subcommands := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        command = subcommands[words.pop(0)]
    parser = command.make_parser(command.context_class(command))
    given, left, _ = parser.parse_args(args=words)  # raises for an option that does not exist
    assert not left, f"hannet takes no such arguments: {left}"
    assert {parameter.name for parameter in command.params if parameter.required} <= given.keys()
