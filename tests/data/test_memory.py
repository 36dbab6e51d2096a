import resource

import pytest

from hannet.data import DataError
from hannet.data.memory import free_bytes, require_free

GIB = 2**30


def machine(root, **files):
    """A file system with 8 GiB free, and the files given, whose slashes are written as two underscores."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text("MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n")
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def group(path, limit, usage, cached=0, *, old=False):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    stat = f"anon 5\n{'total_' * old}inactive_file {cached}"
    path.mkdir(parents=True, exist_ok=True)
    for name, content in zip((*names, "memory.stat"), (limit, usage, stat), strict=True):
        (path / name).write_text(f"{content}\n")


def test_a_machine_without_limits(tmp_path):
    assert free_bytes(machine(tmp_path)) == 8 * GIB
    assert free_bytes(machine(tmp_path / "new", proc__self__cgroup="0::/\n")) == 8 * GIB


def test_cgroup_v2_and_the_groups_around_it(tmp_path):
    root = machine(tmp_path, proc__self__cgroup="0::/pods/one\n")
    cgroups = root / "sys" / "fs" / "cgroup"
    group(cgroups / "pods" / "one", "max", 3 * GIB)
    assert free_bytes(root) == 8 * GIB
    group(cgroups / "pods", 4 * GIB, 3 * GIB)
    assert free_bytes(root) == GIB
    group(cgroups / "pods" / "one", 2 * GIB, GIB * 3 // 2, GIB // 4)
    assert free_bytes(root) == GIB * 3 // 4  # what is cached is given up


def test_a_container_sees_its_group_as_the_root(tmp_path):
    root = machine(tmp_path, proc__self__cgroup="0::/docker/abc\n")
    group(root / "sys" / "fs" / "cgroup", 5 * GIB, 2 * GIB)
    assert free_bytes(root) == 3 * GIB


def test_cgroup_v1(tmp_path):
    root = machine(tmp_path, proc__self__cgroup="12:cpu:/x\n5:memory,hugetlb:/docker/abc\n")
    below = root / "sys" / "fs" / "cgroup" / "memory"
    group(below, 9223372036854771712, 7 * GIB, old=True)
    assert free_bytes(root) == 8 * GIB
    group(below / "docker" / "abc", 3 * GIB, 2 * GIB, GIB // 2, old=True)
    assert free_bytes(root) == GIB * 3 // 2


def test_a_group_that_is_over_its_limit_has_nothing(tmp_path):
    root = machine(tmp_path, proc__self__cgroup="0::/\n")
    group(root / "sys" / "fs" / "cgroup", GIB, 2 * GIB)
    assert free_bytes(root) == 0


def test_the_limit_of_a_shell_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5 * GIB, resource.RLIM_INFINITY))
    root = machine(tmp_path, proc__self__statm=f"{2 * GIB // resource.getpagesize()} 5 5 5 0 5 0\n")
    assert free_bytes(root) == 3 * GIB


def test_rubbish_in_these_files_is_no_fault(tmp_path):
    root = machine(tmp_path, proc__meminfo="what?", proc__self__cgroup="0::/a")
    group(root / "sys" / "fs" / "cgroup" / "a", "many", "few")
    assert free_bytes(root) is None or free_bytes(root) > 0


def test_too_little_is_one_sentence(tmp_path):
    require_free(8 * GIB, "They", root=machine(tmp_path))
    with pytest.raises(DataError, match=r"^They do not fit into memory: they take 8.7 GB, 8.6 GB are free; do less$"):
        require_free(8 * GIB + 10**8, "They", "; do less", tmp_path)
