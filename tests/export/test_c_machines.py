"""Exported C on other compilers and machines; each needs Debian's packages, and is skipped without them."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet import HanNet
from hannet.cli.export import load_model
from hannet.export import describe, template, to_c, verify
from hannet.export.quantisation import quantise
from hannet.export.sources import open_source

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"
HOSTED = {  # compiler, flags of its own, emulator
    "gcc": ("gcc", (), ()),
    "clang": ("clang", (), ()),
    "tcc": ("tcc", (), ()),
    "armhf": ("arm-linux-gnueabihf-gcc", ("-static",), ("qemu-arm",)),
    "s390x": ("s390x-linux-gnu-gcc", ("-static", "-fexcess-precision=fast"), ("qemu-s390x",)),
}
CORTEX = {
    "mps2-an385": ("-mcpu=cortex-m3",),
    "mps2-an386": ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
}
AVR = """#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <stdio.h>
static int put(char letter, FILE *file) { (void)file; UDR0 = (uint8_t)letter; return 0; }
static FILE out = FDEV_SETUP_STREAM(put, 0, _FDEV_SETUP_WRITE);
#define main check
#include "net_test.c"
#undef main
int main(void)
{
    stdout = &out;
    UCSR0B = 1 << TXEN0;
    printf("exit %d\\n", check());
    cli();
    sleep_mode(); /* which ends the simulation */
    return 0;
}
"""
ARDUINO = """#include <stdint.h>
struct {
    void begin(long);
    template <class T> void print(T);
    template <class T> void println(T);
} Serial;
unsigned long micros();
void delay(int);
"""
ZEPHYR = """cmake_minimum_required(VERSION 3.13)
project(application C)
set(CONFIG_HANNET_NET y)
macro(zephyr_library_named name)
  set(made ${name})
  add_library(${made} STATIC)
endmacro()
macro(zephyr_library_sources)
  target_sources(${made} PRIVATE ${ARGN})
endmacro()
macro(zephyr_include_directories)
  target_include_directories(${made} PUBLIC ${ARGN})
endmacro()
add_subdirectory(${module}/zephyr built)
"""
pytestmark = pytest.mark.slow


def integer_net():
    torch.manual_seed(0)
    return HanNet(6, 4, width=24, depth=5, lipschitz=True, reflections=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, table_models):
    """C of each kind of model, by name."""
    root = tmp_path_factory.mktemp("c")
    to_c(integer_net(), root / "integers", name="net", dtype="int16", bounds=(-2.0, 2.0), verified=False)
    to_c(load_model(FIXTURES / "classifier"), root / "floats", name="net", verified=False)
    to_c(load_model(FIXTURES / "images-hannet"), root / "images", name="net", dtype="int8", verified=False)
    to_c(table_models["color"], root / "words", name="net", verified=False)
    to_c(load_model(FIXTURES / "table"), root / "dates", name="net", verified=False)
    return {path.name: path for path in root.iterdir()}


def require(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"needs {program}")


def run(folder, *command, given=b""):
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


def build(folder, machine, *sources):
    """A program of the C with all warnings as errors; gives the command that runs it."""
    compiler, flags, emulator = HOSTED[machine]
    require(compiler, *emulator)
    program = f"{Path(sources[0]).stem}-{machine}"
    run(folder, compiler, *verify.FLAGS, "-ffp-contract=off", *flags, "net.c", *sources, "-o", program)
    return [*emulator, f"./{program}"]


@pytest.mark.parametrize("model", ["integers", "floats", "images", "words", "dates"])
@pytest.mark.parametrize("machine", HOSTED)
def test_vectors_on_machines_with_an_operating_system(machine, model, folders):
    assert b"24 vectors, 0 wrong outputs" in run(folders[model], *build(folders[model], machine, "net_test.c"))


@pytest.mark.parametrize("machine", [name for name in HOSTED if name != "gcc"])
def test_bits_are_the_same_everywhere(machine, folders):
    order = ">" if machine == "s390x" else "<"
    for model, driver, source in (
        ("integers", verify.integer_driver, integer_net()),
        ("floats", verify.driver, load_model(FIXTURES / "classifier")),
    ):
        (folders[model] / "rows.c").write_text(driver("net", "float"))
        rows = verify.c_rows(describe(source), verify.trial(open_source(source), 300).rows)
        if model == "integers":
            rows = rows.clip(-2, 2)
        expected = run(folders[model], *build(folders[model], "gcc", "rows.c"), given=rows.tobytes())
        command = build(folders[model], machine, "rows.c")
        found = run(folders[model], *command, given=rows.astype(f"{order}f4").tobytes())
        np.testing.assert_array_equal(np.frombuffer(found, f"{order}u4"), np.frombuffer(expected, "<u4"))
        if model == "integers":
            (python,) = quantise(describe(source), "int16", (-2.0, 2.0)).outputs(rows)
            np.testing.assert_array_equal(np.frombuffer(expected, np.int32).reshape(python.shape), python)


@pytest.mark.parametrize("model", ["integers", "floats", "words", "dates"])
@pytest.mark.parametrize("board", CORTEX)
def test_vectors_on_a_cortex_m(board, model, folders):
    require("arm-none-eabi-gcc", "qemu-system-arm")
    folder = folders[model]
    for file in ("link.ld", "start.c"):
        (folder / file).write_text(template.fill(f"cortex_m/{file}", {}))
    flags = (*CORTEX[board], "-mthumb", "-std=c99", "-O2", "--specs=rdimon.specs", "-T", "link.ld")
    run(folder, "arm-none-eabi-gcc", *flags, "start.c", "net.c", "net_test.c", "-o", board)
    found = run(folder, "qemu-system-arm", "-M", board, "-display", "none", "-semihosting", "-kernel", board)
    assert b"24 vectors, 0 wrong outputs" in found


def test_vectors_on_an_avr_whose_weights_stay_in_flash(folders):
    require("avr-gcc", "simavr", "avr-nm")
    folder = folders["integers"]
    (folder / "avr.c").write_text(AVR)
    flags = ("-mmcu=atmega1284p", "-std=gnu99", "-O2", "-Wall", "-Werror")
    run(folder, "avr-gcc", *flags, "avr.c", "net.c", "-o", "avr")
    found = run(folder, "sh", "-c", "simavr -m atmega1284p -f 16000000 avr 2>&1")
    assert b"24 vectors, 0 wrong outputs" in found
    assert b"exit 0" in found
    names = [line.split() for line in run(folder, "avr-nm", "avr").decode().splitlines()]
    in_flash = [name for place, _, name in names if name.startswith("net_t") and int(place, 16) < 0x800000]
    assert len(in_flash) > 10  # but for the tables of floats


@pytest.mark.parametrize("model", ["integers", "floats", "words"])
def test_cppcheck_and_valgrind_find_nothing(model, folders):
    require("cppcheck", "valgrind", "gcc")
    folder = folders[model]
    checks = ("--std=c99", "--enable=warning,performance,portability", "--error-exitcode=1", "-q")
    assert run(folder, "cppcheck", *checks, "net.c") == b""
    command = build(folder, "gcc", "net_test.c")
    run(folder, "valgrind", "-q", "--error-exitcode=1", "--leak-check=full", *command)


def test_arduino_and_zephyr(folders):
    require("g++", "cmake", "gcc")
    folder = folders["floats"]
    (folder / "Arduino.h").write_text(ARDUINO)
    sketch = ("-x", "c++", "-include", "Arduino.h", "examples/check/check.ino")
    run(folder, "g++", "-Wall", "-Werror", "-DARDUINO=1", "-I.", "-fsyntax-only", *sketch)
    run(folder, "gcc", "-DARDUINO=1", "-Wall", "-Werror", "-c", "net_test.c", "-o", "empty.o")
    application = folder / "application"
    application.mkdir()
    (application / "CMakeLists.txt").write_text(ZEPHYR)
    run(application, "cmake", f"-Dmodule={folder}", "-B", "build")
    run(application, "cmake", "--build", "build")
    run(folder, "cmake", "-B", "build")
    run(folder, "cmake", "--build", "build")
    assert b"24 vectors, 0 wrong outputs" in run(folder, "build/net_test")
