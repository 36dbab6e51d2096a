"""What a result depends on: device, versions, commit."""

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import torch


def describe_device(kind: str = "cpu") -> str:
    """The processor that trains here, and on how many threads; for "cuda" the GPU."""
    if kind == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, threads: {torch.get_num_threads()}"


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("hannet", "torch", "numba", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


@cache
def commit() -> str | None:
    """The commit this package runs from, with "+" if the checkout differs from it; None outside a checkout."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
