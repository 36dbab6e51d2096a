import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from hannet.experiments import runner
from hannet.experiments.record import Record, Run
from hannet.experiments.runner import run_sweep, shard_of
from hannet.experiments.store import Store
from hannet.experiments.work_queue import MAX_DEATHS, SweepError
from hannet.storage.files import StoreError
from toy import Toy, outcome

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and sends signals")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def forked(monkeypatch):
    """Worker processes that start at once; one test below starts them as they are started in earnest."""
    monkeypatch.setattr(runner, "CONTEXT", FORK)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def toy(tmp_path) -> Toy:
    return Toy(tmp_path / "log")


def silent(_) -> None:
    pass


def run_quietly(toy: Toy, store: Store, jobs: int) -> None:
    sys.stderr = None
    run_sweep(toy, store, silent, jobs)


@contextmanager
def elsewhere(toy: Toy, store: Store, jobs: int = 1):
    """A sweep in a process of its own, killed in the end."""
    process = FORK.Process(target=run_quietly, args=(toy, store, jobs))
    process.start()
    yield process
    process.kill()
    process.join()


def until(happens, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" if Path("/proc").exists() else True


@pytest.mark.parametrize("number", [1, 2, 3, 7, 40])
def test_shards_are_disjoint_complete_and_of_about_equal_cost(number):
    groups = [[Run("trial", {"cost": 1 + (17 * n) % 23, "n": n}, s) for s in range(1 + n % 3)] for n in range(30)]
    shards = [shard_of(groups, lambda run: run.config["cost"], (i + 1, number)) for i in range(number)]
    assert sorted((g for shard in shards for g in shard), key=groups.index) == groups
    loads = [sum(run.config["cost"] for group in shard for run in group) for shard in shards]
    assert max(loads) - min(loads) <= max(sum(run.config["cost"] for run in group) for group in groups)


def test_a_shard_does_not_depend_on_what_is_done(toy, store):
    run_sweep(toy, store, silent, shard=(2, 3))
    second = set(store.records())
    run_sweep(toy, store, silent, shard=(1, 3))
    run_sweep(toy, store, silent, shard=(2, 3))
    first = set(store.records()) - second
    assert run_sweep(toy, store, silent, shard=(3, 3)) == len(toy.keys() - first - second)
    assert set(store.records()) == toy.keys()
    assert set(toy.ended().values()) == {1}
    assert first
    assert second


def test_two_processes_on_one_store_share_the_work(toy, store):
    toy = Toy(toy.log, faults={5: "waits for another process"})  # the group that is begun first
    with elsewhere(toy, store) as first, elsewhere(toy, store) as second:
        first.join(30)
        second.join(30)
    assert [first.exitcode, second.exitcode] == [0, 0]
    assert toy.ended() == dict.fromkeys(toy.keys(), 1)
    assert set(store.records()) == toy.keys()
    assert len({pid for pid, _ in toy.lines("ended")}) == 2
    assert list((store.folder / "claims").iterdir()) == []


def test_waits_for_another_process_and_takes_over_when_it_dies(toy, store):
    hangs = Toy(toy.log, faults={2: "hangs"}, sizes=(1, 1, 1))
    seen = []
    with elsewhere(hangs, store) as other:
        until(lambda: hangs.lines("began"))

        def watch(progress) -> None:
            seen.append(progress.label)
            if progress.label.startswith("waiting"):
                other.kill()

        assert run_sweep(Toy(toy.log, sizes=(1, 1, 1)), store, watch) == 3
    assert seen.index("waiting for another process") > 2
    assert seen[-1] == "toy 2"
    assert len(store.records()) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_group_that_fails_is_reported_and_tried_again_next_time(toy, store, forked, jobs):
    bad = Toy(toy.log, faults={1: "fails", 3: "fails"})
    seen, failures = [], []
    with pytest.raises(
        SweepError, match=r"^2 of 6 groups failed, the first: toy 3: ArithmeticError: two lines; .* again$"
    ):
        run_sweep(bad, store, seen.append, jobs, on_failure=failures.append)
    assert failures == ["toy 3: ArithmeticError: two lines", "toy 1: ArithmeticError: two lines"]
    assert max(event.within.metrics.get("runs/min", 0) for event in seen) > 0
    assert max(event.within.metrics.get("failed", 0) for event in seen) > 0
    assert len(store.records()) == len(toy.keys()) - 5
    assert run_sweep(toy, store, silent, jobs) == 5


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_that_befalls_all_groups_ends_the_sweep(toy, store, forked, jobs):
    with pytest.raises(StoreError, match="no space left"):
        run_sweep(Toy(toy.log, faults={5: "full disk"}, pause=0.05), store, silent, jobs)
    assert len(toy.lines("began")) < len(toy.keys())


def test_a_group_that_kills_its_process_is_given_up_and_the_others_go_on(toy, store, forked):
    with pytest.raises(SweepError, match=rf"toy 3: its process died {MAX_DEATHS} times, exit code -9"):
        run_sweep(Toy(toy.log, faults={3: "dies"}), store, silent, 2)
    assert len(toy.lines("began")) == len(toy.keys()) + 4 * (MAX_DEATHS - 1)
    assert run_sweep(toy, store, silent) == 4


def test_the_workers_of_a_killed_sweep_die_and_hold_nothing(store, tmp_path, forked):
    toy = Toy(tmp_path / "log", sizes=(1, 1, 1), faults=dict.fromkeys(range(3), "hangs"))
    with elsewhere(toy, store, jobs=3) as sweeping:
        until(lambda: len(toy.lines("began")) == 3)
        pids = {int(pid) for pid, _ in toy.lines("began")}
        assert len(pids) == 3
        assert all(map(alive, pids))
        sweeping.kill()
        until(lambda: not any(map(alive, pids)), 10)
    with store.claim(run for group in toy.groups() for run in group) as mine:
        assert mine


def kill_a_sweep(toy: Toy, store: Store, moment: float, *, whole: bool) -> None:
    """Start a sweep in two processes, and some time after its first group kill it, or one of its processes."""
    before = len(toy.lines("began"))
    with elsewhere(toy, store, jobs=2) as sweeping:
        until(lambda: len(toy.lines("began")) > before or not sweeping.is_alive())
        time.sleep(moment)
        victim = sweeping.pid if whole else int(toy.lines("began")[-1][0])
        if alive(victim):
            os.kill(victim, signal.SIGKILL)
        if not whole:
            sweeping.join(0.1)


def test_kills_at_random_moments_change_nothing(store, tmp_path, forked):
    toy = Toy(tmp_path / "log", sizes=(2,) * 12, pause=0.01)
    for kill, moment in enumerate((0.0, 0.03, 0.05, 0.01, 0.08, 0.02)):
        kill_a_sweep(toy, store, moment, whole=kill % 2 == 0)
    run_sweep(toy, store, silent)
    undisturbed = Store(tmp_path / "undisturbed")
    run_sweep(Toy(tmp_path / "other log", sizes=(2,) * 12, pause=0), undisturbed, silent)
    assert outcome(store) == outcome(undisturbed)
    assert list((store.folder / "claims").iterdir()) == []


@pytest.mark.slow
def test_workers_as_they_start_in_earnest_survive_the_death_of_one(store, tmp_path):
    toy, killed = Toy(tmp_path / "log", sizes=(2,) * 8, pause=0.02), []

    def kill_one(_) -> None:
        if not killed and len(pids := {int(pid) for pid, _ in toy.lines("began")}) == 2:
            killed.extend(pids)
            os.kill(killed[0], signal.SIGKILL)

    new = run_sweep(toy, store, kill_one, jobs=2)
    assert killed
    assert len(toy.keys()) - new in (0, 2)  # the killed process may have kept its group, and not lived to say so
    assert set(store.records()) == toy.keys()
    assert os.getpid() not in {int(pid) for pid, _ in toy.lines("began")}


def test_a_record_made_meanwhile_is_not_made_again(toy, store, monkeypatch):
    other = toy.groups()[0][0]

    def meanwhile(progress) -> None:
        if other.key not in store.records():
            result = toy.result(other)
            store.save_model(other, result.model)
            store.append([Record.of(other, result.metrics, 0)])

    assert run_sweep(toy, store, meanwhile) == len(toy.keys()) - 1
    assert other.key not in toy.ended()
