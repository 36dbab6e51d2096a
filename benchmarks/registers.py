"""What the GPU compiler makes of the Triton kernels, without a GPU: registers, spills, shared memory, instructions, traffic.

    python benchmarks/registers.py [--arch 90] [--width 512 ...] [--dtype bf16 ...] [--rows 65536] [--depth 20]

Compiles what a stack of each width launches and assembles it with the ptxas that comes with Triton. The bytes are those of rows and sign
bits that a pass moves from and to memory, an activation; a copy of x, the floor, moves 2 * itemsize / depth.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource

from hannet.kernels import cuda, tiles

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
TYPES = {dtype: f"*{name}" for name, dtype in DTYPES.items()} | {
    torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32"
}  # fmt: skip


class Kernel:
    """Stands for a kernel: compiles what would be launched. Tensors need no memory."""

    def __init__(self, kernel: Any, arch: int):
        self.kernel, self.arch = kernel, arch

    def __getitem__(self, grid: tuple[int, ...]) -> "Kernel":
        return self

    def __call__(self, *values: object, **options: object) -> None:
        """Compile for these arguments."""
        signature, constants, attributes = {}, {}, {}
        for index, (parameter, value) in enumerate(zip(self.kernel.params, values, strict=True)):
            if parameter.is_constexpr or value is None:
                signature[parameter.name], constants[(index,)] = "constexpr", value
            elif isinstance(value, Tensor):
                signature[parameter.name], attributes[(index,)] = TYPES[value.dtype], [["tt.divisibility", 16]]
            else:
                signature[parameter.name] = "i32"
        source = ASTSource(self.kernel, signature, constants, attributes)
        self.warps = options["num_warps"]
        self.compiled = triton.compile(source, target=GPUTarget("cuda", self.arch, 32), options=options)


def compiled(
    rows: int,
    width: int,
    depth: int,
    dtype: torch.dtype,
    arch: int = 90,
    *,
    bias: bool = True,
    reflections: int = 1,
    fold: bool = True,
) -> dict[str, Kernel]:
    """The four kernels as a stack's forward and backward pass would launch them."""
    x = torch.empty(rows, width, dtype=dtype, device="meta")
    u = x.new_empty(depth * reflections, width)
    b = x.new_empty(depth, width) if bias else None
    kernels = {name: Kernel(getattr(tiles, name), arch) for name in ("prepare", "forward", "backward", "finish")}
    with patch.multiple(tiles, **kernels):
        y, signs = cuda.forward(x, u, b, reflections, fold, True)
        cuda.backward(y, y, signs, u, b, reflections, fold)
    return kernels


def assembled(ptx: str, arch: int) -> tuple[int, int]:
    """Registers of a thread and bytes that it spills."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        name = f"--gpu-name=sm_{arch}{'a' if arch >= 90 else ''}"
        command = [nvidia.get_ptxas(arch).path, "-v", name, str(source), "-o", f"{source}.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", report)))
    return int(re.search(r"Used (\d+) registers", report).group(1)), spills


def report(rows: int, width: int, depth: int, dtype: str, arch: int) -> None:
    """One line for each kernel."""
    size = DTYPES[dtype].itemsize / depth
    kept = cuda.signs_shape((rows, width), (depth, width), DTYPES[dtype], 1, True)[1] / (rows * width * depth)
    moved = {"forward": f"{2 * size + kept:.3f}", "backward": f"{3 * size + kept:.3f}"}
    for name, kernel in compiled(rows, width, depth, DTYPES[dtype], arch).items():
        ptx, shared = kernel.compiled.asm["ptx"], kernel.compiled.metadata.shared
        counts = [ptx.count(instruction) for instruction in ("shfl.sync", "bar.sync", "ld.shared", "st.shared")]
        cells = name, width, depth, dtype, kernel.warps, *assembled(ptx, arch), shared, *counts, moved.get(name, "")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Compile, assemble, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten")
    parser.add_argument("--width", type=int, nargs="+", default=[64, 100, 512, 784, 1024, 2048, 4096, 8192])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rows", type=int, default=65536)
    parser.add_argument("--dtype", nargs="+", default=["bf16"], choices=DTYPES)
    args = parser.parse_args()
    heads = (
        "kernel",
        "width",
        "depth",
        "dtype",
        "warps",
        "registers",
        "spilled",
        "shared",
        "shfl",
        "bar",
        "ld",
        "st",
        "bytes",
    )
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for width in args.width:
        for dtype in args.dtype:
            report(args.rows, width, args.depth, dtype, args.arch)


if __name__ == "__main__":
    main()
