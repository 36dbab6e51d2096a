import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import pytest

from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.experiments.work_queue import SweepError
from toy import Toy, outcome

pytest.importorskip("distributed")
cluster = import_module("hannet.experiments.dask_runner")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@contextmanager
def node(kind: str, *arguments: str):
    """A process of a Dask cluster; it imports tests/toy.py."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *arguments]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler's file."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    with node("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)):
        while not file.exists():
            time.sleep(0.05)
        yield file


@contextmanager
def workers(scheduler: Path, number: int):
    options = ["--scheduler-file", str(scheduler), "--nthreads", "1", "--no-nanny", "--local-directory"]
    with ExitStack() as all_of_them:
        yield [
            all_of_them.enter_context(node("worker", *options, str(scheduler.parent / f"scratch{n}")))
            for n in range(number)
        ]


@pytest.mark.slow
def test_a_worker_dies_and_nothing_is_lost(scheduler, tmp_path):
    toy, store, seen, killed = Toy(tmp_path / "log", sizes=(2,) * 10, pause=0.1), Store(tmp_path / "store"), [], []
    with workers(scheduler, 2) as processes:

        def kill_one(progress) -> None:
            seen.append(progress)
            at_work = {int(pid) for pid, _ in toy.lines("began")}
            if not killed and len(at_work) == 2:
                killed.append(toy.lines("began")[-1])
                os.kill(int(killed[0][0]), signal.SIGKILL)

        assert run_sweep(toy, store, kill_one, cluster=str(scheduler)) == 20
        assert {int(killed[0][0])} < {process.pid for process in processes}
    first, again = (pid for pid, key in toy.lines("began") if key == killed[0][1])
    assert first == killed[0][0] != again
    assert len(store.path.read_text().splitlines()) == 20
    assert {record.device.split("threads: ")[1] for record in store.records().values()} == {"1"}
    assert any(event.label == "toy 9" for event in seen)
    here = Store(tmp_path / "here")
    run_sweep(Toy(tmp_path / "other log", sizes=(2,) * 10), here, print)
    assert outcome(store) == outcome(here)
    assert list((store.folder / "claims").iterdir()) == []


@pytest.mark.slow
def test_a_group_that_fails_there_is_reported_and_another_version_refused(scheduler, tmp_path, monkeypatch):
    toy, store = Toy(tmp_path / "log", faults={1: "fails"}), Store(tmp_path / "store")
    with workers(scheduler, 1):
        with pytest.raises(SweepError, match="1 of 6 groups failed, the first: toy 1: ArithmeticError: two lines"):
            run_sweep(toy, store, print, cluster=str(scheduler))
        assert len(store.records()) == len(toy.keys()) - 1
        monkeypatch.setattr(cluster.metadata, "version", lambda _: "99")
        with pytest.raises(SweepError, match=r"worker tcp://\S+ has hannet \S+, here is 99"):
            run_sweep(toy, store, print, cluster=str(scheduler))


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, content):
    monkeypatch.setattr(cluster, "CONNECT_WITHIN", 0.3)
    address = "tcp://127.0.0.1:9"
    if content:
        address = str(tmp_path / "scheduler.json")
        Path(address).write_text(content)
    with pytest.raises(SweepError, match="no Dask scheduler answers at"):
        run_sweep(Toy(tmp_path / "log"), Store(tmp_path / "store"), print, cluster=address)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(OSError("Address removed"), None), (ModuleNotFoundError(name="hannet"), "lack the package hannet")],
)
def test_a_worker_that_dies_while_versions_are_compared_is_passed_over(monkeypatch, answer, message):
    class Connected:
        def __init__(self, *_, **__):
            """Reaches a scheduler with two workers."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            """Nothing to close."""

        def run(self, function, on_error):
            assert on_error == "return"
            return {"tcp://a": answer, "tcp://b": function()}

    monkeypatch.setattr(cluster, "Client", Connected)
    with pytest.raises(SweepError, match=message) if message else nullcontext(), cluster._connected("tcp://c"):
        pass
