"""What a result depends on: device, versions, commit, sources."""

import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from .. import __version__


def describe_device(kind: str = "cpu") -> str:
    """The processor that trains here, and on how many threads; for "cuda" the GPU."""
    if kind == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    parts = ["cpu", platform.machine(), torch.backends.cpu.get_cpu_capability(), _processor()]
    return f"{' '.join(filter(None, parts))}, threads: {torch.get_num_threads()}"


@cache
def _processor() -> str:
    """Vendor, family and model where Linux tells them: processors of one instruction set may round differently."""
    try:
        first, *_ = Path("/proc/cpuinfo").read_text().split("\n\n")
    except OSError:
        return ""
    facts = dict(re.findall(r"^(vendor_id|cpu family|model)\s*: (.*)$", first, re.MULTILINE))
    return "{vendor_id} {cpu family}.{model}".format(**facts) if len(facts) == 3 else ""


_ALWAYS = ("torch", "numba", "numpy")
# What computes, or decides what is computed on, wherever it was imported. A test asks that every import of the package is here,
# or is known to compute nothing.
_IF_IMPORTED = {
    "accelerate": "accelerate",
    "chardet": "chardet",
    "deel-torchlip": "deel",
    "eagerpy": "eagerpy",
    "foolbox": "foolbox",
    "kornia": "kornia",
    "llvmlite": "llvmlite",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "pandas": "pandas",
    "peft": "peft",
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "pyarrow": "pyarrow",
    "python-calamine": "python_calamine",
    "rtdl-num-embeddings": "rtdl_num_embeddings",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "skrub": "skrub",
    "tabm": "tabm",
    "torchattacks": "torchattacks",
    "triton": "triton",
    "wasmtime": "wasmtime",
}


def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that a result depends on; of optional ones, those that this process has imported."""
    imported = (name for name, module in _IF_IMPORTED.items() if module in sys.modules)
    found = {name: _version(name) for name in (*_ALWAYS, *imported)}
    # of hannet the sources' own, which may run without being installed
    always = {"python": platform.python_version(), "hannet": __version__}
    return always | {name: version for name, version in found.items() if version}


@cache
def _version(package: str) -> str | None:
    """None for a module without a distribution, as a build of PyTorch may carry Triton."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package in _ALWAYS:
            raise
        return None


@cache
def source_hash() -> str:
    """Twelve hexadecimal digits that name the package's sources as they are on disk.

    They are those of the tree that Git has for them: `git rev-parse COMMIT:src/hannet` begins with them, if COMMIT holds the same
    sources. So a changed page of documentation does not count as a change, and a changed source that was not committed does.
    """
    return _tree_hash(Path(__file__).parents[1]).hex()[:12]


def _tree_hash(folder: Path) -> bytes:
    """Git's hash of a folder, compiled and hidden files apart."""
    paths = [p for p in folder.iterdir() if p.name != "__pycache__" and not p.name.startswith(".")]
    entries = b"".join(
        b"40000 %s\0%s" % (p.name.encode(), _tree_hash(p))
        if p.is_dir()
        else b"100644 %s\0%s" % (p.name.encode(), _git_hash(b"blob", p.read_bytes()))
        for p in sorted(paths, key=lambda p: p.name + "/" * p.is_dir())
    )
    return _git_hash(b"tree", entries)


def _git_hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(content), content), usedforsecurity=False).digest()


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
