"""What an exported C file takes of the machines that compilers are installed for: bytes, stack, instructions."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from platform import machine

from . import template
from .folders import temporary_folder
from .verify import compiler

_STANDARD = ("-std=c99", "-O2", "-ffp-contract=off")
_CORTEX = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_TICK = 40  # instructions that QEMU runs for a tick of the clock of its boards, 25 MHz
_SECONDS = 60


@dataclass(frozen=True)
class Cost:
    """What a build takes. stack: of all functions together, so at least what is needed; None where no tool tells.

    code, constants: bytes; instructions: a row, averaged over the test vectors.
    """

    build: str
    code: int
    constants: int
    stack: int | None
    instructions: int | None

    @property
    def sentence(self) -> str:
        """For people."""
        parts = [f"{self.code:,} bytes of code", f"{self.constants:,} of constants"]
        parts += [f"at most {self.stack:,} of stack"] if self.stack is not None else []
        parts += [f"{self.instructions:,} instructions a row"] if self.instructions is not None else []
        return f"{self.build}: {', '.join(parts)}"


def measure(files: Mapping[str, str], name: str, vectors: int) -> list[Cost]:
    """Of this machine, and of a Cortex-M4 if its compiler is installed; what a tool that is missing would tell is left out."""
    values = {"NAME": name, "UPPER": name.upper()}
    board = {file: template.fill(f"cortex_m/{file}", values) for file in template.files("cortex_m")}
    with temporary_folder({**files, **board}) as folder:
        here, size = compiler(), shutil.which("size")
        counted = _counted_here(folder, name, here, vectors)
        costs = [_cost(folder, name, f"{machine()}, {Path(here).name}", (here,), size, counted)]
        cross, cross_size = shutil.which("arm-none-eabi-gcc"), shutil.which("arm-none-eabi-size")
        if cross:
            counted = _counted_by_qemu(folder, name, cross, vectors)
            costs.append(_cost(folder, name, "Cortex-M4, gcc", (cross, *_CORTEX), cross_size, counted))
        return [cost for cost in costs if cost]


def _cost(
    folder: Path, name: str, build: str, command: Sequence[str], size: str | None, instructions: int | None
) -> Cost | None:
    """None where it does not compile, or the object's sections cannot be told."""
    if not size or not (made := _compile(folder, name, command)):
        return None
    sections = re.findall(r"^\.(text|rodata|data)\S*\s+(\d+)", _run(folder, size, "-A", made.name), re.MULTILINE)
    if not sections:
        return None
    code = sum(int(count) for kind, count in sections if kind == "text")
    constants = sum(int(count) for kind, count in sections if kind != "text")
    return Cost(f"{build} -O2", code, constants, _stack(made.with_suffix(".su")), instructions)


def _compile(folder: Path, name: str, command: Sequence[str]) -> Path | None:
    """The object, and beside it what the compiler tells of the stack; None if there is no object."""
    made = folder / f"{name}.o"
    for options in (("-fstack-usage",), ()):  # which not every compiler has
        for old in (made, made.with_suffix(".su")):  # of another machine
            old.unlink(missing_ok=True)
        _run(folder, *command, *_STANDARD, *options, "-c", f"{name}.c", "-o", made.name)
        if made.exists():
            return made
    return None


def _stack(usage: Path) -> int | None:
    if not usage.exists():
        return None
    return sum(int(line.split("\t")[1]) for line in usage.read_text().splitlines())


def _counted_here(folder: Path, name: str, here: str, vectors: int) -> int | None:
    if not shutil.which("valgrind"):
        return None
    _run(folder, here, *_STANDARD, f"{name}.c", f"{name}_test.c", "-o", "counted")
    options = ("--tool=callgrind", f"--toggle-collect={name}_predict", "--callgrind-out-file=/dev/null")
    found = re.search(r"Collected : (\d+)", _run(folder, "valgrind", *options, "./counted"))
    return round(int(found[1]) / vectors) if found else None


def _counted_by_qemu(folder: Path, name: str, cross: str, vectors: int) -> int | None:
    if not shutil.which("qemu-system-arm"):
        return None
    sources = ("start.c", "count.c", f"{name}.c")
    _run(folder, cross, *_CORTEX, *_STANDARD, "--specs=rdimon.specs", "-T", "link.ld", *sources, "-o", "count.elf")
    board = ("-M", "mps2-an386", "-icount", "shift=0", "-display", "none", "-semihosting")
    ticks = _run(folder, "qemu-system-arm", *board, "-kernel", "count.elf").strip()
    return round(int(ticks) * _TICK / vectors) if ticks.isdecimal() else None


def _run(folder: Path, *command: str) -> str:
    """What it says; nothing if it takes too long."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout + done.stderr
