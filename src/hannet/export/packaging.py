"""What lets other people's tools build an exported C file: CMake, Arduino, Zephyr, and a README."""

from collections.abc import Sequence

from . import c99, template
from .c_code import comment
from .program import Program


def package(program: Program, name: str, report: Sequence[str]) -> dict[str, str]:
    """Files beside the C. report: lines on what was measured."""
    values = {
        "NAME": name,
        "UPPER": name.upper(),
        "KIND": comment(program.kind)[1:-1].replace('"', "'"),
        "SHA": program.digest,
        "REPORT": "\n".join(f"- {line}" for line in report),
    }
    return {file: template.fill(f"c/{file}", values) for file in template.files("c")}


def file_names(name: str) -> set[str]:
    """What may lie in a folder that C was exported to: what was written, and what the README's commands build beside it."""
    return {*(name + ending for ending in c99.ENDINGS), *template.files("c"), f"{name}.o"}
