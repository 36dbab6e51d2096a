"""Does a parser of files that a user brings crash, hang or take much memory on any input?

    python benchmarks/trust/fuzz.py [--inputs 1000000] [--only tables,idx,...] [--seed 0] [--quick] [--out hannet-results/trust]

Atheris (libFuzzer for Python; pip install atheris) changes small valid files, guided by which branches of hannet they reach; many
of the changes keep the structure of gzip, zip, PNG, JSON and safetensors and make checksums and digests right again. A fault is any
exception but hannet's own errors, a process that dies, an input that takes more than 10 s of the processor or 60 s, and memory:
each parser may ask for 1 GiB more than the process has when it begins. Inputs that make a fault are kept in OUT/faults, one for
each place. Prints a line a parser, with the lines of it that were reached; appends a record; exits with 1 if there was a fault.
About 20 minutes.
"""

import argparse
import ast
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import FrameType
from typing import Any

import atheris

with atheris.instrument_imports(include=["hannet"], exclude=["hannet.ops"]):
    import mutations
    import parsers
    import workload
    from parsers import PARSERS, Parser

SECONDS, MEMORY = 10, 1 << 30  # that an input may take
PATIENCE = 60  # seconds, where the machine has other work
LARGEST = 32768  # bytes of an input
INPUTS, READ, SLOWEST, PEAK = range(4)  # what a process counts: inputs, valid ones, milliseconds, kilobytes
Counts = Any  # of ctypes


def main() -> None:
    """Fuzz one parser after the other, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all parsers together")
    parser.add_argument("--only", default=",".join(PARSERS), help="parsers, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="500 inputs")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/trust"), help="folder of the record")
    arguments = parser.parse_args()
    began, metrics, chosen = time.perf_counter(), dict[str, float](), arguments.only.split(",")
    inputs, shares = 500 if arguments.quick else arguments.inputs, sum(PARSERS[name].share for name in chosen)
    with workload.no_process_left():
        for name in chosen:
            count = round(inputs * PARSERS[name].share / shares)
            metrics |= fuzz_parser(name, count, arguments.seed, arguments.out.absolute() / "faults")
    totals = {
        kind: sum(value for key, value in metrics.items() if key.startswith(kind)) for kind in ("inputs", "faults")
    }
    config = {"inputs": inputs, "only": arguments.only, "seconds": SECONDS, "memory": MEMORY}
    workload.save_record(arguments.out, "fuzz", config, arguments.seed, metrics | totals, began)
    seconds = time.perf_counter() - began
    rate = totals["inputs"] / seconds
    print(f"{totals['inputs']:,.0f} inputs, {totals['faults']:,.0f} faults; {seconds:,.0f} s, {rate:,.0f} inputs/s")
    sys.exit(totals["faults"] > 0 or totals["inputs"] < inputs)


def fuzz_parser(name: str, count: int, seed: int, faults: Path) -> dict[str, float]:
    """Fuzz a parser with so many inputs, in a process of its own, and print what came out."""
    began, counts = time.perf_counter(), RawArray("q", 4)
    before = _kept(faults, name)
    with tempfile.TemporaryDirectory(prefix="hannet-fuzz-", dir=_memory()) as place:
        folder = Path(place, name)
        for part in ("corpus", "input"):
            (folder / part).mkdir(parents=True)
        for step in (_write_seeds, _fuzz, _measure):
            process = workload.start(step, folder, name, count, seed, faults, counts)
            process.join()
        log = workload.beside(folder, "log").read_text(errors="replace")
    found = _kept(faults, name) - before
    done, read, slowest, peak = counts
    covered = re.findall(r"lines reached: (\d+) of (\d+)", log) or [("0", "1")]
    edges = re.findall(r"cov: (\d+)", log) or ["0"]
    seconds = time.perf_counter() - began
    died = done < count
    if died:
        print(log[-2000:], file=sys.stderr)
    reached, lines = map(int, covered[-1])
    print(
        f"{name:<12}{done:>9,} inputs {done / seconds:>7,.0f}/s, valid {read / max(done, 1):4.0%}, "
        f"lines {reached} of {lines}, branches {edges[-1]}, slowest {slowest / 1000:.1f} s, "
        f"{peak / 1024:.0f} MB more, faults {len(found)}{', the process died' * died}",
        flush=True,
    )
    kinds = {"inputs": done, "valid": read, "slowest, s": slowest / 1000, "peak, MB": peak / 1024, "seconds": seconds}
    kinds |= {"lines reached, share": reached / lines, "branches": int(edges[-1]), "faults": len(found) + died}
    return {f"{kind}: {name}": float(value) for kind, value in kinds.items()}


def _kept(faults: Path, name: str) -> set[Path]:
    """The inputs of a parser that made faults."""
    return {path for path in faults.glob(f"{name}-*") if path.suffix != ".txt"}


def _memory() -> Path | None:
    """A file system in memory, if there is one."""
    path = Path("/dev/shm")  # noqa: S108  the folder that is made in it has a name of its own
    return path if path.is_dir() else None


def _write_seeds(name: str, *_: object) -> None:
    for number, files in enumerate(PARSERS[name].seeds()):
        Path("corpus", f"seed{number}").write_bytes(parsers.pack(files))


def _fuzz(name: str, count: int, seed: int, faults: Path, counts: Counts) -> None:
    """Let Atheris run; it ends the process."""
    warnings.simplefilter("ignore")
    parser, seen, base = PARSERS[name], set[str](), _peak()
    valid = [path.read_bytes() for path in sorted(Path("corpus").iterdir())]
    for data in valid:  # what happens at the first use only is not the input's doing
        error = _feed(parser, data, Path("input"))
        assert error is None, error
    _limit_memory()
    faults.mkdir(parents=True, exist_ok=True)

    def one_input(data: bytes) -> None:
        if counts[INPUTS] >= count:
            return
        began = time.process_time()
        error = _feed(parser, data, Path("input"))
        if (took := time.process_time() - began) > SECONDS:
            error = TimeoutError(f"{took:.0f} s")
        counts[INPUTS] += 1
        counts[READ] += error is None
        counts[SLOWEST] = max(counts[SLOWEST], int(1000 * took))
        counts[PEAK] = max(counts[PEAK], _peak() - base)
        if error and not isinstance(error, parsers.OWN_ERRORS) and (where := _place(error)) not in seen:
            seen.add(where)
            path = faults / f"{name}-{re.sub(r'[^a-z0-9]+', '-', where.lower())}"
            path.write_bytes(data)
            path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))

    def mutate(data: bytes, largest: int, number: int) -> bytes:
        chance = random.Random(number)  # noqa: S311
        if chance.random() < 0.5:  # else most inputs would fail at the first question
            data = chance.choice(valid)
        plainly: Callable[[bytes], bytes] = lambda content: atheris.Mutate(content, max(len(content), 16) * 2)  # noqa: E731
        return mutations.mutate_input(data, chance, plainly)[:largest]

    options = {"runs": count, "seed": seed + 1, "max_len": LARGEST, "timeout": PATIENCE, "rss_limit_mb": 0}
    options["report_slow_units"] = PATIENCE  # of wall time: other programs may run
    options |= {"artifact_prefix": faults / f"{name}-process-", "print_final_stats": 1, "len_control": 0}
    words = ["fuzz", *(f"-{option}={value}" for option, value in options.items()), "corpus"]
    atheris.Setup(words, one_input, custom_mutator=mutate)
    atheris.Fuzz()


def _feed(parser: Parser, data: bytes, folder: Path) -> BaseException | None:
    """Let a parser read an input: what it raised."""
    for path in folder.iterdir():
        _remove(path)
    for name, content in parsers.unpack(data).items():
        (folder / name).write_bytes(content)
    try:
        parser.parse(folder)
    except BaseException as error:  # noqa: BLE001  any other is a fault
        return error
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink()


def _place(error: BaseException) -> str:
    """Where an exception came from: its type, and the innermost line of hannet."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/hannet/" in frame.filename]
    return f"{type(error).__name__} {Path(frames[-1].filename).stem} {frames[-1].lineno}" if frames else repr(error)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_memory() -> None:
    """Nothing may ask for more than MEMORY beyond what is there now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _measure(name: str, *_: object) -> None:
    """Feed what Atheris found worth keeping once more, and count the lines inside functions that are reached."""
    parser, reached = PARSERS[name], set[tuple[str, int]]()
    files = {str(import_module(f"hannet.{module}").__file__) for module in parser.modules}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    kept = sorted(Path("corpus").iterdir())
    sys.settrace(trace)
    for path in random.Random(0).sample(kept, min(len(kept), 2000)):  # noqa: S311
        _feed(parser, path.read_bytes(), Path("input"))
    sys.settrace(None)
    lines = {(file, line) for file in files for line in _lines(Path(file))}
    print(f"\nlines reached: {len(reached & lines)} of {len(lines)}")


def _lines(path: Path) -> set[int]:
    """The lines of statements inside functions."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            body = [node for part in function.body for node in ast.walk(part) if isinstance(node, ast.stmt)]
            found |= {node.lineno for node in body if not isinstance(node, ast.Expr | ast.FunctionDef)}
    return found


if __name__ == "__main__":
    main()
