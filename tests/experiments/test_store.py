import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import resource
import signal
import time
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import nn

from hannet.experiments.record import Record, Run
from hannet.experiments.store import Store, scratch_folder
from hannet.storage.files import StoreError, try_lock, write_atomic
from hannet.storage.provenance import versions


def run(seed: int = 0, **config) -> Run:
    return Run("trial", {"width": 100, **config}, seed)


def record(seed: int = 0, loss: float = 0.5) -> Record:
    return Record.of(run(seed), {"loss": loss}, 1.25)


def test_a_key_is_stable_and_depends_on_content_only():
    assert Run("figure1", {"b": [1, 2], "a": 0.05}, 3).key == "b250c3b35302bc87"
    assert run(a=1, b=(1, 2)).key == run(b=[1, 2], a=1).key
    assert len({run().key, run(1).key, run(a=1).key, Run("other", {"width": 100}, 0).key}) == 4


def test_a_config_that_is_not_json_is_refused():
    with pytest.raises((TypeError, ValueError)):
        _ = run(rate=float("nan")).key
    with pytest.raises(TypeError):
        _ = run(net=nn.Linear(1, 1)).key


def test_records_come_back_as_they_went_in(tmp_path):
    store = Store(tmp_path / "deep" / "store")
    store.append([record(0), record(1, loss=float("nan"))])
    back = Store(store.folder).records()
    assert back[run(0).key] == record_without_time(back[run(0).key], record(0))
    assert back[run(1).key].metrics == {"loss": None}
    assert set(versions()) >= {"python", "hannet", "torch", "numba", "numpy"}
    line = json.loads(store.path.read_text().splitlines()[0])
    assert (line["commit"], line["sources"]) == (record().commit, record().sources)


def record_without_time(back: Record, expected: Record) -> Record:
    return Record(**{**vars(expected), "when": back.when})


def test_missing_runs_are_those_without_a_record_each_once(tmp_path):
    store = Store(tmp_path)
    store.append([record(1)])
    assert store.missing([run(0), run(1), run(2), run(0)]) == [run(0), run(2)]
    assert store.missing([run(1)], models=True) == [run(1)]
    store.save_model(run(1), nn.Linear(2, 2))
    assert store.missing([run(1)], models=True) == []


def test_the_later_of_two_records_counts(tmp_path):
    store = Store(tmp_path)
    store.append([record(0, 0.5)])
    store.append([record(0, 0.25)])
    assert store.records()[run(0).key].metrics == {"loss": 0.25}


@pytest.mark.parametrize("cut", [1, 2, 50, 200])
def test_a_torn_last_line_is_ignored_and_repaired(tmp_path, cut):
    store = Store(tmp_path)
    store.append([record(0)])
    store.append([record(1)])
    store.path.write_bytes(store.path.read_bytes()[:-cut])
    assert store.missing([run(0), run(1)]) == [run(1)]
    store.append([record(2)])
    assert set(store.records()) == {run(0).key, run(2).key}


@pytest.mark.parametrize("line", [b"{}", b"not json", b"[1]", b"\xff\xff", b"", pickle.dumps(print)])
def test_a_spoilt_line_is_named(tmp_path, line):
    store = Store(tmp_path)
    store.append([record(0)])
    store.path.write_bytes(line + b"\n" + store.path.read_bytes())
    with pytest.raises(StoreError, match=r"records\.jsonl, line 1: not a record"):
        store.records()


def test_a_record_cannot_name_weights_elsewhere(tmp_path):
    (tmp_path / "store" / "models").mkdir(parents=True)
    elsewhere, store = Store(tmp_path / "other"), Store(tmp_path / "store")
    elsewhere.save_model(run(), nn.Linear(3, 2))
    for key in (f"../../other/models/{run().key}", str(tmp_path / "other" / "models" / run().key), ""):
        with pytest.raises(StoreError, match="is no key of a record"):
            store.load_model(key, nn.Linear(3, 2))


@pytest.mark.parametrize("wrong", [{"key": ["a"]}, {"config": 3}, {"metrics": []}, {"seed": None}])
def test_a_record_of_other_types_is_one_sentence(tmp_path, wrong):
    Store(tmp_path).append([record()])
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong) + "\n")
    with pytest.raises(StoreError, match=r"records\.jsonl, line 1: not a record"):
        Store(tmp_path).records()


@pytest.mark.parametrize("place", ["file/store", "file"])
def test_a_folder_that_cannot_be_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        Store(tmp_path / place)


@contextmanager
def files_no_larger_than(size: int):
    """As on a full disk. Ends within the test: pytest itself may be writing to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing(tmp_path):
    store = Store(tmp_path)
    store.append([record(0)])
    before = store.path.read_bytes()
    with files_no_larger_than(len(before) + 100):
        with pytest.raises(StoreError, match="File too large"):
            store.append([record(1), record(2)])
        with pytest.raises(StoreError, match="File too large"):
            write_atomic(tmp_path / "file", bytes(len(before) + 101))
    assert store.path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "records.jsonl", "records.lock"]


def append_many(folder, start: int) -> None:
    store = Store(folder)
    for seed in range(start, start + 10):
        store.append([record(seed)])


def test_processes_append_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(tmp_path, 10 * n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert Store(tmp_path).missing(map(run, range(40))) == []


def append_forever(folder) -> None:
    store = Store(folder)
    seed = 0
    while True:
        store.append([record(seed)])
        seed += 1


def test_a_killed_writer_leaves_a_store_that_works(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=append_forever, args=(tmp_path,))
    worker.start()
    store = Store(tmp_path)
    while len(store.records()) < 3:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    kept = len(store.records())
    store.append([record(10**9)])
    assert kept >= 3
    assert len(store.records()) == kept + 1


def test_a_claim_is_for_all_of_its_runs_or_none(tmp_path):
    store = Store(tmp_path)
    with store.claim([run(0), run(1)]) as first, Store(tmp_path).claim([run(1), run(2)]) as second:
        assert (first, second) == (True, False)
        with store.claim([run(2)]) as third:
            assert third
    with store.claim(map(run, range(3))) as fourth:
        assert fourth
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_fault_under_a_claim_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), Store(tmp_path).claim([run()]):
        raise FileNotFoundError("of the work")


def claim_for_good(folder, holds) -> None:
    with Store(folder).claim([run(0)]):
        (folder / "models" / f".{run(0).key}.safetensors.123").write_bytes(b"half")
        holds.set()
        time.sleep(60)


def test_the_claims_of_a_killed_process_end_with_it(tmp_path):
    context = multiprocessing.get_context("fork")
    holds = context.Event()
    holder = context.Process(target=claim_for_good, args=(tmp_path, holds))
    holder.start()
    assert holds.wait(20)
    store = Store(tmp_path)
    store.tidy()
    with store.claim([run(0)]) as mine:
        assert not mine
    assert len(list((tmp_path / "models").iterdir())) == len(list((tmp_path / "claims").iterdir())) == 1
    holder.kill()
    holder.join()
    store.tidy()
    assert [*(tmp_path / "models").iterdir(), *(tmp_path / "claims").iterdir()] == []
    with store.claim([run(0)]) as mine:
        assert mine


@pytest.mark.parametrize("fault", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch, fault):
    store = Store(tmp_path)

    def refused(*_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StoreError, match="this file system has no locks"):
        store.append([record(0)])
    with pytest.raises(StoreError, match="this file system has no locks"), try_lock(tmp_path / "lock"):
        pytest.fail("claimed without a lock")


def test_a_run_that_is_cut_off_finds_its_folder_again_and_another_process_leaves_none(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with suppress(KeyboardInterrupt), scratch_folder(run()) as first:
        (first / "state").touch()
        with suppress(SystemExit), scratch_folder(run()) as second:
            (second / "state").touch()
            raise SystemExit
        assert second != first
        assert not second.exists()
        raise KeyboardInterrupt
    with scratch_folder(run()) as again:
        assert (again / "state").exists()
    assert [path for path in again.parent.iterdir() if path.is_dir()] == []


def test_models_come_back_and_misfits_are_named(tmp_path):
    store = Store(tmp_path)
    model = nn.Linear(3, 2)
    store.save_model(run(), model)
    back = store.load_model(run().key, nn.Linear(3, 2))
    assert torch.equal(back.weight, model.weight)
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f"{run().key}.safetensors"]
    with pytest.raises(StoreError, match="of another network"):
        store.load_model(run().key, nn.Linear(2, 3))
    with pytest.raises(StoreError, match="missing"):
        store.load_model(run(1).key, nn.Linear(3, 2))
    (tmp_path / "models" / f"{run().key}.safetensors").write_bytes(b"torn")
    with pytest.raises(StoreError, match="damaged"):
        store.load_model(run().key, nn.Linear(3, 2))


def test_a_store_that_is_only_read_changes_nothing(tmp_path):
    assert Store(tmp_path / "none", write=False).records() == {}
    assert list(tmp_path.iterdir()) == []
    Store(tmp_path / "store").append([record(0)])
    before = sorted(tmp_path.rglob("*"))
    assert list(Store(tmp_path / "store", write=False).records()) == [run(0).key]
    assert sorted(tmp_path.rglob("*")) == before
