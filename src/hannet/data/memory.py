"""How much memory this process may still take: what is free, less than a container's or a shell's limits."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from . import DataError

_UNLIMITED = 1 << 60  # cgroup v1 writes its largest number, a bit below 2**63


def require_free(needed: int, what: str, hint: str = "", root: Path = Path("/")) -> None:
    """Raises DataError if memory of that many bytes is not to be had: what needs it, how much is free, and a hint."""
    free = free_bytes(root)
    if free is not None and needed > free:
        raise DataError(
            f"{what} do not fit into memory: they take {gigabytes(needed)}, {gigabytes(free)} are free{hint}"
        )


def gigabytes(size: int) -> str:
    """As people read it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def free_bytes(root: Path = Path("/")) -> int | None:
    """The least of what the machine has, what cgroups (v1 and v2) leave, and RLIMIT_AS; None where nothing tells.

    root: of the file system with /proc and /sys.
    """
    found = [*_of_machine(root), *_of_cgroups(root), *_of_address_space(root)]
    return max(0, min(found)) if found else None


def _of_machine(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, LookupError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        yield int(values["MemAvailable"].split()[0]) * 1024
        return
    with suppress(AttributeError, ValueError, OSError):  # another system than Linux
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_cgroups(root: Path) -> Iterator[int]:
    """What each group that this process is in leaves, and each that such a group is in; as the process and as its container see it."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            below = root / "sys/fs/cgroup"
            if controllers == "":
                names = "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                below, names = (
                    below / "memory",
                    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
                )
            else:
                continue
            path = PurePosixPath(group.lstrip("/"))
            for part in (path, *path.parents):
                yield from _left_by(below / part, *names)


def _left_by(group: Path, most: str, used: str, reclaimable: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # "max", and groups that this process does not see
        limit, usage = int((group / most).read_text()), int((group / used).read_text())
        if limit < _UNLIMITED:
            yield limit - usage + _statistic(group, reclaimable)


def _statistic(group: Path, name: str) -> int:
    """Bytes of files in the cache, which the system gives up when memory is short."""
    with suppress(OSError, ValueError, LookupError):
        return int(dict(line.split() for line in (group / "memory.stat").read_text().splitlines())[name])
    return 0


def _of_address_space(root: Path) -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError):
            taken = int((root / "proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            yield most - taken
