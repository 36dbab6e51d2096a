"""Of one process; two of them are in vision/test_pipeline.py."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

pytest.importorskip("accelerate")
from hannet.storage.files import StoreError
from hannet.train.distributed import DistributedContext, JointBatchNorm, joint_statistics


def test_one_process_is_the_first_and_sums_nothing():
    processes = DistributedContext()
    assert (processes.count, processes.place, processes.first) == (1, 0, True)
    value = torch.ones(2)
    assert processes.sum(value) is value


@pytest.mark.slow
def test_an_accelerator_that_is_no_cuda_device_is_left_alone():
    """As on a Mac, whose GPU has no float64; one process of a launcher."""
    code = (
        "import torch; torch.accelerator.is_available = torch.backends.mps.is_available = lambda: True; "
        "torch.backends.mps.is_built = torch.backends.mps.is_available; torch.cuda.is_available = lambda: False; "
        "from hannet.train.distributed import DistributedContext; print(DistributedContext().device)"
    )
    environment = os.environ | {"WORLD_SIZE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "cpu\n"


def test_one_process_keeps_its_batch_norms():
    model = nn.Sequential(nn.BatchNorm2d(3))
    with joint_statistics(model, DistributedContext()):
        assert type(model[0]) is nn.BatchNorm2d


def test_a_lock_keeps_others_out_until_the_block_ends(tmp_path):
    lock, processes = tmp_path / "new" / "lock", DistributedContext()
    with processes.exclusive_lock(lock, "busy"):
        with pytest.raises(StoreError, match=r"^busy$"), processes.exclusive_lock(lock, "busy"):
            pytest.fail("two hold one lock")
        assert lock.exists()
    with processes.exclusive_lock(lock, "busy"):
        pass
    assert not list(lock.parent.iterdir())


def test_a_lock_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match=r"file: (File exists|Not a directory)"),
        DistributedContext().exclusive_lock(tmp_path / "file" / "lock", "busy"),
    ):
        pytest.fail("a lock nowhere")


def test_a_fault_under_a_lock_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), DistributedContext().exclusive_lock(tmp_path / "lock", "busy"):
        raise FileNotFoundError("of the work")


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_alone_it_is_batch_norm(group, options):
    torch.manual_seed(0)
    ours, plain = JointBatchNorm(3, **options).double(), nn.BatchNorm2d(3, **options).double()
    for _ in range(2):
        x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 2 + 1
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(given) for norm, given in zip((ours, plain), inputs, strict=True)]
        for out in outputs:
            (out * x.flip(0)).sum().backward()
        torch.testing.assert_close(outputs[0], outputs[1])
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for (name, value), (other, expected) in zip(ours.state_dict().items(), plain.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    processes = DistributedContext()
    assert (processes.count, processes.place, processes.first) == (1, 0, True)
    assert processes.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ModuleNotFoundError):
        DistributedContext()


@pytest.mark.parametrize(("said", "device"), [("True", "cpu"), ("False", "cuda"), (None, "cuda")])
def test_accelerate_launch_may_ask_for_the_cpu(monkeypatch, said, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if said:
        monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    assert DistributedContext().device.type == device
