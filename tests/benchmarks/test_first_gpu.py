"""The programs for a GPU that is at hand for minutes, rehearsed on a CPU: every stage, on a bare machine, and where stages fail."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOT_THERE = {
    "PIL",
    "accelerate",
    "foolbox",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "pooch",
    "pyarrow",
    "requests",
    "rich",
}
NOT_THERE |= {"safetensors", "scipy", "sklearn", "tqdm", "typer"}
# the finders of installed packages find none of these, as on a machine where they are not installed
BARE = f"""
import runpy, sys
for finder in list(sys.meta_path):
    class Finder:
        def __init__(self, finder): self.finder = finder
        def __getattr__(self, name): return getattr(self.finder, name)
        def find_spec(self, name, path=None, target=None):
            return None if name.partition(".")[0] in {NOT_THERE!r} else self.finder.find_spec(name, path, target)
    sys.meta_path[sys.meta_path.index(finder)] = Finder(finder)
sys.argv, sys.path[0] = sys.argv[1:], {str(BENCHMARKS)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def module(monkeypatch):
    """A module of the programs."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def rehearse(out, *options, code=()):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*code, str(BENCHMARKS / "first_gpu.py"), "--rehearse", "--minutes", "20", "--out", str(out), *options]
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout, records


@pytest.mark.slow
def test_every_stage_works_and_is_not_repeated(tmp_path, module):
    _, records = rehearse(tmp_path)
    stages = module("first_gpu.stages")
    names = {f"first gpu rehearsal {stage.name}" for stage in (*stages.FIRST, *stages.MORE)}
    assert {record["experiment"] for record in records} == names
    assert json.loads((tmp_path / "tiles.json").read_text()).keys() == {""}
    said, again = rehearse(tmp_path)
    assert again == records
    assert "..." not in said


@pytest.mark.slow
def test_a_bare_machine_is_enough(tmp_path):
    said, records = rehearse(tmp_path, "--stages", "environment", "steps", "cifar", code=("-c", BARE))
    assert "done without: safetensors, huggingface_hub" in said
    assert {record["config"]["piece"] for record in records} >= {"copy", "stem", "han16", "mlp1-han16"}


def test_a_stage_that_fails_or_hangs_is_a_record_and_stops_no_other(tmp_path, module, monkeypatch):
    stages, running = map(module, ("first_gpu.stages", "first_gpu.running"))
    own, known = os.getpid(), torch.cuda.is_available

    def ask():
        assert os.getpid() != own, "a process that asked for the GPU cannot start others that use it"
        return known()

    def fail(keeper, _):
        keeper.tell("first", lambda: 1 / 0)
        keeper.tell("second", lambda: {"value": 1.0})
        raise ValueError("in between")

    def hang(keeper, _):
        print("at work", flush=True)
        time.sleep(60)

    monkeypatch.setattr(torch.cuda, "is_available", ask)
    monkeypatch.setattr(running, "_GRACE", 0.5)
    some = (
        stages.Stage("fails", 0.1, fail),
        stages.Stage("hangs", 0.1, hang),
        stages.Stage("works", 10, lambda keeper, _: keeper.tell("a", lambda: {"value": 2.0}) and None),
    )
    monkeypatch.setattr(running, "_summarise", lambda *_: 0)
    running.run_stages(some, tmp_path, tmp_path, 100, True)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    told = {(r["experiment"].removeprefix("first gpu rehearsal "), r["config"]["piece"]): r for r in records}
    assert told["fails: failed", "first"]["config"]["message"] == "ZeroDivisionError: division by zero"
    assert told["fails", "second"]["metrics"] == {"value": 1.0}
    assert "in between" in told["fails: failed", "the stage itself"]["config"]["message"]
    assert "at work" in told["hangs: failed", "the stage itself"]["config"]["message"]
    assert told["works", "a"]["metrics"] == {"value": 2.0}


def test_a_piece_that_failed_is_tried_again_by_the_next_call(tmp_path, module):
    keeping = module("first_gpu.keeping")
    keeper = keeping.Keeper(tmp_path, "stage", 10, keeping.now())
    assert keeper.tell("piece", lambda: 1 / 0) is None
    assert keeper.tell("piece", lambda: {"value": 1.0}) is None  # by another process of the same call
    assert keeper.counts() == (0, 1)
    later = keeping.Keeper(tmp_path, "stage", 10, "2999")
    assert later.tell("piece", lambda: {"value": 1.0}) == {"value": 1.0}
    assert later.tell("piece", lambda: 1 / 0) == {"value": 1.0}
    assert later.counts() == (1, 0)
    assert keeping.Keeper(tmp_path, "stage", 0, "2999").tell("other", lambda: {"value": 1.0}) is None  # no time


def test_packed_images_come_back_to_the_bit(tmp_path, module):
    packed, generator = module("first_gpu.packed"), np.random.default_rng(0)
    x = generator.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    x[:10] = np.where(x[:10] > 127, 255, 0)
    x[10], x[11] = 0, 255
    y = generator.integers(0, 10, 30)
    for number, path in enumerate(packed.names(tmp_path, 2)):
        path.write_bytes(packed.pack({"train": (x[number::2], y[number::2]), "test": (x[:3], y[:3])}))
    for paths, rows in ((packed.find(tmp_path)[:1], slice(0, None, 2)), (packed.find(tmp_path)[1:], slice(1, None, 2))):
        assert all(map(np.array_equal, packed.unpack(paths, "train"), (x[rows], y[rows])))
    both, classes = packed.unpack(packed.find(tmp_path), "train")
    assert np.array_equal(both, np.concatenate([x[::2], x[1::2]]))
    assert np.array_equal(classes, np.concatenate([y[::2], y[1::2]]))


@pytest.mark.parametrize("kernels", [["forward", "backward"], ["forward"]])
def test_counters_are_of_both_kernels(tmp_path, module, monkeypatch, kernels):
    profiling, keeping = map(module, ("first_gpu.profiling", "first_gpu.keeping"))
    lines = "".join(f"  {kernel} (64, 1, 1)x(128, 1, 1), Context 1\n" for kernel in kernels)

    def ncu(command, **_):
        assert command[0] == "ncu"
        assert "backward" in command[command.index("--kernel-name") + 1]
        return subprocess.CompletedProcess(command, 0, lines, "")

    monkeypatch.setattr(profiling.shutil, "which", lambda name: name)
    monkeypatch.setattr(profiling.subprocess, "run", ncu)
    keeper = keeping.Keeper(tmp_path, "profile", 100, keeping.now())
    if len(kernels) == 2:
        assert profiling._counters(keeper) == {"lines": 2}
        assert (tmp_path / "ncu.txt").read_text() == lines
    else:
        with pytest.raises(RuntimeError, match="both kernels"):
            profiling._counters(keeper)


@pytest.mark.parametrize(("works", "in_turn", "ratio"), [(True, 1.0, 1.0), (True, 0.5, 0.5), (False, 1.0, 0.0)])
def test_a_tile_is_better_only_if_it_is_in_turns(tmp_path, module, monkeypatch, works, in_turn, ratio):
    tuning, keeping = map(module, ("first_gpu.tuning", "first_gpu.keeping"))
    form = tuning.Form("forward", 65536, 512, 20)
    rule, other, *_ = form.candidates()

    def tile():
        ((found,),) = (passes.values() for passes in tuning.tiles.measured().values())
        return tuning.Tile(*found)

    def outputs(*_):
        if not works and tile() == rule:
            raise RuntimeError("out of resources")
        return [], None

    monkeypatch.setattr(tuning, "outputs_of", outputs)
    monkeypatch.setattr(tuning, "compare", lambda *_: {"": 0.9 if tile() == other else 1.0})  # as noise has it
    monkeypatch.setattr(tuning, "seconds_of", lambda *_: in_turn if tile() == other else 1.0)
    found = tuning._best(form, keeping.Keeper(tmp_path, "tune", 100, keeping.now()))
    assert [found[name] for name in tuning.Tile._fields] == list(other)
    assert found["time over the rule's"] == ratio


@pytest.mark.parametrize("wrong", [1.1, float("nan")])
@pytest.mark.parametrize("shape", [(512, 20, 3), (512, 1, 2)])  # of width 1 the gradient of u is 0
def test_a_wrong_row_among_many_is_seen(module, monkeypatch, shape, wrong):
    correctness = module("first_gpu.correctness")
    case = correctness.Case(*shape, torch.bfloat16)
    found = correctness.by_reference(*(t.double() for t in correctness.inputs(case)), case)
    found = [t.to(case.dtype) for t in found]
    monkeypatch.setattr(correctness, "by_kernel", lambda *_: found)
    assert max(correctness.compare(case).values()) < 0.6  # what rounding takes
    found[1][3] *= wrong
    with pytest.raises(AssertionError, match="errors over what is allowed"):
        correctness.compare(case)


def test_inputs_at_the_kink_are_refused(module, monkeypatch):
    correctness = module("first_gpu.correctness")
    monkeypatch.setattr(correctness, "nearest_kink", lambda x, *_: torch.zeros(len(x)))
    with pytest.raises(RuntimeError, match="all 7 rows away"):
        correctness.inputs(correctness.Case(7, 5, 2))
