import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hannet.models import FCNet
from hannet.storage.files import StoreError
from hannet.train import checkpoint
from hannet.train.errors import CheckpointError, TerminatedError, TrainingError
from hannet.train.recipe import Recipe
from hannet.vision.pipeline import evaluate, train_classifier
from hannet.vision.preprocessing import Preprocessing, normalise_and_resize
from images_toy import RECIPE, launched, toy_images, toy_network

TOY = str(Path(__file__).parents[1] / "images_toy.py")
pytest.importorskip("accelerate")


def trained(recipe=RECIPE, seed=5, network=None, **options):
    network = network or toy_network()
    options = {"validation": toy_images(30, 2), **options}
    return network, train_classifier(network, toy_images(96, 1), recipe, seed, **options)


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def test_learns_and_tells_how():
    network, history = trained(replace(RECIPE, epochs=15, ema=0.0))
    assert history.validation_error[-1] < 0.1 < history.validation_error[0]
    assert all(len(values) == 15 for values in vars(history).values())
    assert history.last()["validation_top5_error"] == 0
    assert all(0 <= share < 1 for share in history.waiting)
    assert not network.training
    held = toy_images(30, 2)
    error = (network(normalise_and_resize(held.x, RECIPE.mean, RECIPE.std, None)).argmax(1) != held.y).double().mean()
    assert float(error) == pytest.approx(history.validation_error[-1])


def test_the_seed_decides_and_the_callers_generator_is_left_alone():
    torch.manual_seed(3)
    first, _ = trained()
    drawn = torch.rand(3)
    torch.manual_seed(3)
    network = toy_network()  # draws as `trained` does
    assert torch.equal(torch.rand(3), drawn)
    second, _ = trained(network=network)
    other, _ = trained(seed=6)
    assert same(state(first), state(second))
    assert not same(state(first), state(other))


def test_the_average_is_what_is_measured_and_kept():
    plain, _ = trained(replace(RECIPE, ema=0.0))
    slow, _ = trained(replace(RECIPE, ema=0.9999))
    start = toy_network().state_dict()
    moved = {
        kind: sum(float((state(net)[name] - start[name]).square().sum()) for name in ("head.weight", "norm.weight"))
        for kind, net in (("plain", plain), ("slow", slow))
    }
    assert moved["slow"] < moved["plain"] / 10


def test_the_steps_are_those_of_plain_pytorch():
    """One process, no augmentation: AdamW on the batches in their order, the rate falling at the milestone."""
    from hannet.train.distributed import DistributedContext
    from hannet.vision.loader import Batches

    recipe = replace(RECIPE, augmentation=type(RECIPE.augmentation)(), ema=0.0, epochs=2)
    network, _ = trained(recipe)
    plain, training = toy_network(), toy_images(96, 1)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=3e-3, weight_decay=0.1)
    batches = Batches(training, recipe, 5, DistributedContext())
    plain.to(memory_format=torch.channels_last)
    seen = set()
    for epoch in range(2):
        for step in range(6):
            optimizer.param_groups[0]["lr"] = 3e-3 * (0.2 if epoch else 1)
            x, y = batches.at(epoch, step)
            seen |= {(epoch, round(float(image.sum()), 3)) for image in x}
            nn.functional.cross_entropy(plain(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert len(seen) == 2 * 96  # each image once an epoch
    assert same(state(network), state(plain))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_learn(precision):
    _, history = trained(replace(RECIPE, precision=precision, epochs=20, ema=0.0))
    assert history.validation_error[-1] < 0.2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_does_not_wait_for_a_gpu(precision):
    """From the third step to the fifth any wait raises: of batches, gradients and optimizer."""
    network, steps = toy_network(), iter(range(10**6))

    def told(module, _):
        if module.training:
            torch.cuda.set_sync_debug_mode(
                {2: "error", 5: "default"}.get(next(steps), torch.cuda.get_sync_debug_mode())
            )

    network.register_forward_pre_hook(told)
    augmentation = replace(RECIPE.augmentation, policy="cifar10")
    try:
        trained(replace(RECIPE, precision=precision, ema=0.0, augmentation=augmentation), network=network)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_are_resized_on_the_way():
    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.seen = nn.Linear(3, 3), set()

        def forward(self, x):
            self.seen.add(tuple(x.shape[1:]))
            return self.line(x.mean((2, 3)))

    network, _ = trained(replace(RECIPE, resize=12, ema=0.0), network=Sizes())
    assert network.seen == {(3, 12, 12)}


def test_what_does_not_fit_is_a_sentence():
    for recipe, part in {
        replace(RECIPE, batch=97): "batch must be at most 96",
        replace(RECIPE, mean=(0.5,), std=(0.2,)): "3 numbers",
    }.items():
        with pytest.raises(ValueError, match=part):
            trained(recipe)
    held = toy_images(30, 2)
    held.y[4] = 3
    with pytest.raises(ValueError, match="labels must be from 0 to 2, the classes of the images, got 0 to 3"):
        trained(validation=held)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (30, 20), (20, 30)])
def test_images_without_classes_are_a_sentence(x, y):
    images = toy_images(30, 2)
    held = replace(images, x=images.x[:x], y=images.y[:y])
    with pytest.raises(ValueError, match=f"there must be images and as many classes, got {x} and {y}"):
        trained(validation=held)


def test_a_diverging_training_says_so_and_keeps_no_state(tmp_path):
    with pytest.raises(TrainingError, match="diverged in epoch 1: a smaller learning rate may help"):
        trained(replace(RECIPE, lr=1e30), checkpoint=tmp_path, minutes=0)
    options = {"flat": True, "checkpoint": tmp_path, "minutes": 0}
    for batch, when in ((16, " in epoch 1"), (96, "")):  # within the training, by its only step
        recipe = Recipe(lr=1e30, batch=batch, iterations=96 // batch, loss="cross_entropy")
        with pytest.raises(TrainingError, match=f"the training diverged{when}: a smaller learning rate may help"):
            train_classifier(FCNet(192, 3, 8, 2), toy_images(96, 1), recipe, 5, **options)
    assert not list(tmp_path.iterdir())


def test_progress_is_told():
    told = []
    trained(on_progress=told.append)
    assert (told[-1].step, told[-1].total, told[-1].unit) == (288, 288, "images")
    assert told[-1].metrics["epoch"] == "3/3"
    assert {"loss", "validation error"} <= told[-1].metrics.keys()


@pytest.mark.slow
def test_goes_on_from_a_checkpoint_after_any_step(tmp_path):
    """A training is cut off by a signal after each of some steps in turn; what comes out is what never was cut off."""
    whole, history = trained()
    for stop_after in (1, 5, 6, 7, 13, 18):
        folder, left = tmp_path / str(stop_after), iter(range(stop_after - 1, -1, -1))

        def told(module, _, left=left):
            if module.training and next(left, 1) == 0:
                signal.raise_signal(signal.SIGTERM)

        network = toy_network()
        network.register_forward_pre_hook(told)
        with pytest.raises(TerminatedError, match="the same command resumes from there"):
            trained(network=network, checkpoint=folder)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        resumed, again = trained(checkpoint=folder)
        assert same(state(resumed), state(whole))
        assert (again.train_loss, again.validation_error) == (history.train_loss, history.validation_error)
        finished, last = trained(checkpoint=folder)  # it is over: nothing is trained
        assert same(state(finished), state(whole))
        assert last.train_loss == history.train_loss


def test_ctrl_c_keeps_the_state(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    network = toy_network()
    network.register_forward_pre_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt, match="the same command resumes from there"):
            trained(network=network, checkpoint=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert checkpoint.path_in(tmp_path).is_file()


def test_what_is_ignored_stays_ignored(tmp_path):
    """So it is in the worker processes of a sweep, whose parent answers Ctrl-C."""
    network = toy_network()
    network.register_forward_pre_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, history = trained(network=network, checkpoint=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(history.train_loss) == 3


@pytest.mark.slow
def test_bits_are_the_same_after_sigkill(tmp_path):
    """A process that keeps its state after every step is killed at random times until it is done."""
    command = [sys.executable, TOY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launched(TOY, "", tmp_path / "whole", 12, 0)
    kept, pause = checkpoint.path_in(tmp_path / "kept"), np.random.default_rng(0)
    for _ in range(4):
        before = kept.stat().st_mtime_ns if kept.exists() else 0
        with subprocess.Popen(
            [*command, str(kept.parent), str(tmp_path / "cut"), "12", "0"], env=environment
        ) as process:
            while process.poll() is None and not (kept.exists() and kept.stat().st_mtime_ns > before):
                time.sleep(0.002)
            time.sleep(pause.uniform(0, 0.1))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        (kept.parent / f".checkpoint.safetensors.{process.pid}").write_bytes(b"half")  # as if it had been writing
    launched(TOY, kept.parent, tmp_path / "cut", 12, 0)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "cut.json").read_text() == (tmp_path / "whole.json").read_text()
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.slow
def test_one_folder_keeps_one_training(tmp_path):
    """Another one ends, of one process or of two, until the first one is killed: its lock dies with it."""
    kept = tmp_path / "kept"
    arguments = [TOY, str(kept), str(tmp_path / "out"), "100000", "0"]
    with subprocess.Popen([sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            while not checkpoint.path_in(kept).exists():
                assert process.poll() is None
                time.sleep(0.01)
            with pytest.raises(StoreError, match="kept: another training keeps its state there"):
                trained(checkpoint=kept)
            two = launched(*arguments, processes=2, check=False)
            assert two.returncode
            assert "kept: another training keeps its state there" in two.stderr
            assert "the first process could not begin" in two.stderr
        finally:
            process.kill()
    with pytest.raises(CheckpointError, match="of a training with other settings"):
        trained(checkpoint=kept)
    assert [path.name for path in kept.iterdir() if path.suffix == ".lock"] == []


@pytest.mark.slow
def test_two_processes_get_what_one_gets(tmp_path):
    for processes, name in enumerate(("one", "two"), 1):
        launched(TOY, "", tmp_path / name, 3, 0, processes=processes)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert (one[0], two[0]) == (1, 2)
    assert two[1] == pytest.approx(one[1], rel=1e-4)
    assert two[2:] == one[2:]
    first, second = (load_file(tmp_path / name) for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=2e-3, atol=2e-4)
    left = "".join((tmp_path / f"two.threads{place}").read_text() for place in range(2))
    assert "gloo" not in left, "the group's threads outlive it, and may abort the process"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 6])
def test_two_processes_stop_after_the_same_step_and_go_on(tmp_path, stop):
    """One of them is told to, in the last step as in the first; sums of a part of an epoch are those of both."""
    kept, two = tmp_path / "kept", tmp_path / "two"
    launched(TOY, "", tmp_path / "one", 1, 10)
    stopped = launched(TOY, kept, two, 1, 10, stop, processes=2, check=False)
    assert stopped.returncode
    assert "the same command resumes from there" in stopped.stderr
    _, told = checkpoint.read(kept)
    assert told["step"] == stop
    launched(TOY, kept, two, 1, 10, processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two[1] == pytest.approx(one[1], rel=1e-5)
    assert two[2:] == one[2:]


@pytest.mark.slow
def test_two_processes_that_find_two_states_end(tmp_path):
    """As on two machines whose folders of that name are not one."""
    launched(TOY, tmp_path / "0", tmp_path / "out", 1, 10)
    done = launched(TOY, tmp_path / "{place}", tmp_path / "two", 1, 10, processes=2, check=False)
    assert done.returncode
    for place in range(2):
        assert f"{tmp_path / str(place)}: not all processes find the same checkpoint there" in done.stderr
    assert not (tmp_path / "two").exists()


CHANGES = {
    "another recipe": lambda options: options | {"recipe": replace(RECIPE, lr=1e-3)},
    "another seed": lambda options: options | {"seed": 6},
    "another network": lambda options: options | {"network": nn.Sequential(nn.Flatten(), nn.Linear(192, 3))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change):
    trained(checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="of a training with other settings, data or seed"):
        trained(**CHANGES[change]({"checkpoint": tmp_path}))


def test_other_images_are_noticed(tmp_path):
    trained(checkpoint=tmp_path)
    training = toy_images(96, 1)
    training.x[50, 0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match="other settings, data or seed"):
        train_classifier(toy_network(), training, RECIPE, 5, checkpoint=tmp_path)


def test_a_full_disk_does_not_end_the_training(tmp_path):
    told = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole, _ = trained()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        network, _ = trained(checkpoint=tmp_path, on_progress=told.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(state(network), state(whole))
    assert "no checkpoint could be written (File too large)" in told[-1].metrics.values()
    assert not list(tmp_path.iterdir())


def test_what_is_over_and_cannot_be_kept_is_not_lost_to_a_signal(tmp_path):
    steps, network = iter(range(18)), toy_network()
    network.register_forward_pre_hook(
        lambda module, _: signal.raise_signal(signal.SIGTERM) if module.training and next(steps) == 17 else None
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        _, history = trained(network=network, checkpoint=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(history.validation_error) == 3
    assert next(steps, None) is None


def test_trains_in_a_thread_where_there_are_no_signals():
    found = []
    thread = threading.Thread(target=lambda: found.append(trained()[1]))
    thread.start()
    thread.join()
    assert len(found[0].train_loss) == 3


@pytest.mark.parametrize(("count", "kept"), [(3, True), (101, False)])
def test_confusions_are_counted_where_they_are_reported(monkeypatch, count, kept):
    counted = []
    bincount = torch.Tensor.bincount
    monkeypatch.setattr(torch.Tensor, "bincount", lambda *args, **more: counted.append(1) or bincount(*args, **more))
    names = tuple(map(str, range(count)))
    test = replace(toy_images(12, 1), classes=names)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, count))
    found = evaluate(network, Preprocessing(3, 8, names, (0.5,) * 3, (1.0,) * 3), test)
    assert (found["confusion"] is not None) == kept == bool(counted)
    if kept:
        assert [sum(line) for line in found["confusion"]] == [4, 4, 4]
