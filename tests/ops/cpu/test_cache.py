"""Compiled code on disk: whatever lies there, and whatever the file system says, a function is compiled and right."""

import errno
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import types
from numba.core import caching

from hannet.ops.cpu import cache

TRIPLE = types.int64(types.int64)


def triple(x):
    return 3 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a process that has not warned yet keeps compiled code."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path


def start() -> tuple[int, list[str]]:
    """How many versions came from the disk, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = cache.compile_c(triple, TRIPLE)
    assert compiled.ctypes(7) == 21
    assert all(warning.category is RuntimeWarning for warning in caught)
    return compiled.cache_hits, [str(warning.message) for warning in caught]


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_the_second_start_reads_what_the_first_kept(folder):
    assert start() == (0, [])
    assert start() == (1, [])


DAMAGE = {
    "empty": lambda content: content[:0],
    "truncated": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "random": lambda content: np.random.default_rng(0).bytes(len(content)),
    "a bit in the code": lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
    "Numba's own format": lambda content: content[cache._CHECKSUM :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_compiled_again_with_one_warning(folder, damage):
    start()
    path = only_file(folder)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    hits, (warned,) = start()
    assert hits == 0
    assert f"{path} is damaged" in warned
    assert start() == (1, [])  # and has been repaired


def test_the_code_of_another_user_is_not_run(folder, monkeypatch):
    start()
    stat = os.stat_result([0o100600, 1, 1, 1, os.geteuid() + 1, *[0] * 5])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: stat)
        hits, (warned,) = start()
    assert hits == 0
    assert "belongs to another user" in warned


def test_a_folder_in_the_place_of_a_file_is_left_alone(folder):
    start()
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    hits, warned = start()
    assert (hits, len(warned)) == (0, 1)


def test_a_limit_of_file_sizes_is_one_warning(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        hits, (warned,) = start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert hits == 0
    assert os.strerror(errno.EFBIG) in warned
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert start() == (0, [])


def test_where_no_folder_can_be_written_there_is_no_cache(folder, monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    hits, (warned,) = start()
    assert hits == 0
    assert "every start compiles them again" in warned
    assert "NUMBA_CACHE_DIR" in warned
    assert start() == (0, [])  # said once


def test_versions_of_one_function_lie_in_files_of_their_own(folder):
    """Numba numbers them: of two processes that begin at once each may write its own version as number 1."""

    def plus(constant):
        def add(x):
            return x + constant

        return cache.compile_c(add, TRIPLE)

    assert [plus(constant).ctypes(1) for constant in (1, 2)] == [2, 3]
    assert [plus(constant).ctypes(1) for constant in (2, 1)] == [3, 2]
    assert [plus(constant).cache_hits for constant in (1, 2)] == [1, 1]
    assert len([path for path in folder.rglob("*.nbc") if path.is_file()]) == 2


def test_other_sources_are_other_files(folder, monkeypatch):
    start()
    monkeypatch.setattr(cache, "_sources", lambda: "changed")
    assert start() == (0, [])


USE = """
import torch
from hannet.functional import han_stack
from hannet.ops import dispatch, reference
x, u = torch.randn(7, 33), torch.randn(3, 33)
torch.testing.assert_close(han_stack(x, u), reference.stack(x, u, None))
print(dispatch.kernel_choices()[0].path, dispatch.kernel_choices()[0].reason)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_on_an_empty_cache(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", USE]
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert only_file(tmp_path).suffix == ".nbc"


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["NUMBA_CPU_NAME=generic", "NUMBA_ENABLE_AVX=0", "NUMBA_DISABLE_JIT=1"], ids=str)
def test_numbas_settings_are_obeyed(tmp_path, variable):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)} | dict([variable.split("=")])
    run = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=True)
    expected = "reference NUMBA_DISABLE_JIT" if "JIT" in variable else "kernel Numba, 128-bit"
    assert run.stdout.startswith(expected)
