"""What the GPU compiler makes of the Triton kernels, without a GPU: registers, spills, shared memory, instructions, traffic.

    python benchmarks/registers.py [--shapes 65536x512x20 ...] [--dtype bf16 ...] [--arch 90] [--forms] [--out hannet-results/benchmarks]

Compiles what a stack of rows x width x depth launches, and assembles and takes it apart with the tools that come with Triton; prints a
table and appends a record. Instructions are those that a thread runs for one activation in the loop over the layers. Bytes are those
of rows and sign bits that a pass moves from and to memory, an activation; "over copy" is that beside a copy of x, the floor, which
moves 2 * itemsize / depth. Neither says how long a pass takes: `gpu.py` times it, on a GPU.
--forms compiles instead what rows of every form launch, many, few, and so few that a pass is one launch; takes ten minutes a dtype.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource

from hannet.experiments import store as runs
from hannet.experiments.record import Record, Run
from hannet.ops.cuda import launch, tiles, triton_kernels

SHAPES = [
    "65536x512x20",
    "65536x1024x16",
    "262144x64x16",
    "65536x100x20",
    "65536x784x20",
    "16384x4096x20",
    "8192x8192x20",
]
KERNELS = ("prepare", "forward", "backward", "finish", "forward_alone", "backward_alone")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
TYPES = {dtype: f"*{name}" for name, dtype in DTYPES.items()} | {
    torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32"
}  # fmt: skip


class Kernel:
    """Stands for a kernel: compiles what would be launched. Tensors need no memory."""

    def __init__(self, kernel: Any, arch: int):
        self.kernel, self.arch, self.compiled = kernel, arch, None

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
        given = dict(zip((parameter.name for parameter in self.kernel.params), values, strict=True))
        if "R" in given:
            self.activations = given["R"] * given["WIDTH"]  # of a tile
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
    apply_abs: bool = True,
) -> dict[str, Kernel]:
    """The kernels that a stack's forward and backward pass would launch."""
    x = torch.empty(rows, width, dtype=dtype, device="meta")
    u = x.new_empty(depth * reflections, width)
    b = x.new_empty(depth, width) if bias else None
    kernels = {name: Kernel(getattr(triton_kernels, name), arch) for name in KERNELS}
    with patch.object(
        launch, "triton_kernels", SimpleNamespace(**kernels)
    ):  # kernels call each other by the module's names
        y, signs = launch.forward(x, u, b, reflections, apply_abs, True)
        launch.backward(y, y, signs, u, b, reflections, apply_abs)
    return {name: kernel for name, kernel in kernels.items() if kernel.compiled}


def assembled(ptx: str, arch: int) -> tuple[int, int, list[str]]:
    """Registers of a thread, bytes that it spills, and the machine's instructions, labels among them."""
    tool = Path(nvidia.get_ptxas(arch).path)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        name = f"--gpu-name=sm_{arch}{'a' if arch >= 90 else ''}"
        report = _output(tool, "-v", name, source, "-o", binary).stderr
        listing = _output(tool.with_name("nvdisasm"), "-c", binary).stdout
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", report)))
    return int(re.search(r"Used (\d+) registers", report).group(1)), spills, listing.splitlines()


def _output(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)


def innermost(listing: list[str]) -> int:
    """Instructions of the first loop that ends: from the label that a jump goes back to, to that jump."""
    labels: dict[str, int] = {}
    count = 0
    for line in map(str.strip, listing):
        if found := re.match(r"(\.L_x_\d+):", line):
            labels[found[1]] = count
        elif re.match(r"/\*[0-9a-f]+\*/", line):
            count += 1
            jump = re.search(r"\bBRA\b.*?(\.L_x_\d+)", line)
            if jump and jump[1] in labels:
                return count - labels[jump[1]]
    raise ValueError("no loop in this kernel")


def report(rows: int, width: int, depth: int, dtype: str, arch: int) -> dict[str, dict[str, float]]:
    """For each kernel what the compiler says of it."""
    size = DTYPES[dtype].itemsize / depth
    kept = launch.signs_shape((rows, width), (depth, width), DTYPES[dtype], 1, True)[1] / (rows * width * depth)
    moved = {"forward": 2 * size + kept, "backward": 3 * size + kept}
    found: dict[str, dict[str, float]] = {}
    for name, kernel in compiled(rows, width, depth, DTYPES[dtype], arch).items():
        registers, spilled, listing = assembled(kernel.compiled.asm["ptx"], arch)
        shared = kernel.compiled.metadata.shared
        found[name] = {"warps": kernel.warps, "registers": registers, "spilled": spilled, "shared": shared}
        if name in moved:
            held = kernel.activations / (32 * kernel.warps)
            found[name] |= {
                "instructions": innermost(listing) / held,
                "bytes": moved[name],
                "over copy": moved[name] / (2 * size),
            }
    return found


def shapes_of_forms(dtype: torch.dtype) -> dict[str, list[tuple[int, int, int]]]:
    """Rows, width and depth for each form that rows are divided into: large tiles, small ones, and one that has all rows."""
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    found: dict[str, list[tuple[int, int, int]]] = {"many rows": [], "few rows": [], "one launch": []}
    for (columns, chunks), width in {launch.chunks_of(width): width for width in range(8192, 0, -1)}.items():
        call = 1, columns, chunks, kind, ""
        large = tiles.choose("forward", 1 << 30, *call).rows
        found["many rows"].append((64 * large, width, 20))
        found["few rows"].append((63 * large, width, 20))
        fit = [
            rows
            for rows in range(1, 2 * large + 1)
            if tiles.alone(rows, columns, chunks, (chunks - 1).bit_length(), kind)
        ]
        found["one launch"] += [(rows, width, 20) for rows in {*fit[:1], *fit[-1:]}]
    return found


def compile_all(shapes: list[tuple[int, int, int]], dtype: torch.dtype, arch: int) -> dict[str, float]:
    """The most that any kernel takes of registers and stack, in bytes, of a thread, and of shared memory."""
    most = dict.fromkeys(("registers", "stack", "shared"), 0)
    for shape in shapes:
        for kernel in compiled(*shape, dtype, arch).values():
            taken = {**resources(kernel.compiled.asm["cubin"], arch), "shared": kernel.compiled.metadata.shared}
            most = {key: max(value, taken[key]) for key, value in most.items()}
    return most | {"shapes": len(shapes)}


def resources(binary: bytes, arch: int) -> dict[str, int]:
    """Registers and bytes of stack of a thread of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        tool = Path(nvidia.get_ptxas(arch).path).with_name("cuobjdump")
        listing = _output(tool, "--dump-resource-usage", file.name).stdout
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", listing).groups())
    return {"registers": registers, "stack": stack}


def shape_of(text: str) -> str:
    """The text, if it is rows x width x depth of a stack that the kernels serve."""
    sizes = [int(size) if size.isdecimal() else 0 for size in text.split("x")]
    if len(sizes) != 3 or min(sizes) < 1 or sizes[1] > 8192:
        raise argparse.ArgumentTypeError(f"{text!r} is not such as 65536x512x20, of a width up to 8192")
    return text


def report_all(shapes: list[str], dtypes: list[str], arch: int) -> dict[str, float]:
    """The table, printed, and its numbers."""
    metrics = {}
    heads = ("warps", "registers", "spilled", "shared", "instructions", "bytes", "over copy")
    print(f"| kernel | rows x width x depth | dtype | {' | '.join(heads)} |\n{'| --- ' * (3 + len(heads))}|")
    for shape in shapes:
        for dtype in dtypes:
            for kernel, found in report(*map(int, shape.split("x")), dtype, arch).items():
                cells = [f"{found[head]:.4g}" if head in found else "" for head in heads]
                print(f"| {' | '.join([kernel, shape, dtype, *cells])} |", flush=True)
                metrics |= {f"{shape} {dtype} {kernel}: {name}": value for name, value in found.items()}
    return metrics


def append(folder: Path, run: Run, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Writes the record of some work. Returns its metrics."""
    began = perf_counter()
    record = Record.of(run, metrics := work(), perf_counter() - began)
    versions = dict(record.versions) | {"triton": triton.__version__}
    runs.Store(folder).append([replace(record, device=f"compiled for sm_{run.config['arch']}", versions=versions)])
    return metrics


def main() -> None:
    """Compile, assemble, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arch", type=int, default=90, choices=(80, 86, 89, 90, 100, 120), help="compute capability times ten"
    )
    parser.add_argument("--shapes", nargs="+", type=shape_of, default=SHAPES, help="rows x width x depth")
    parser.add_argument("--dtype", nargs="+", default=["bf16"], choices=DTYPES)
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    parser.add_argument("--forms", action="store_true", help="every form of rows, in the place of shapes")
    args = parser.parse_args()
    if not args.forms:
        run = Run("benchmark registers", {"shapes": args.shapes, "dtypes": args.dtype, "arch": args.arch}, 0)
        append(args.out, run, lambda: report_all(args.shapes, args.dtype, args.arch))
    for dtype in args.dtype if args.forms else ():
        for name, shapes in shapes_of_forms(DTYPES[dtype]).items():
            run = Run(f"benchmark registers: forms, {name}", {"dtype": dtype, "arch": args.arch}, 0)
            print(
                f"{dtype}, {name}:",
                append(args.out, run, partial(compile_all, shapes, DTYPES[dtype], args.arch)),
                flush=True,
            )


if __name__ == "__main__":
    main()
