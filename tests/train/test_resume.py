"""A training of flat networks that was interrupted ends with the bits of one that was not."""

import signal
import sys
from pathlib import Path

import pytest
import torch

from hannet import FCNet
from hannet.train import Recipe, train
from hannet.train.errors import CheckpointError, TerminatedError

sys.path.append(str(Path(__file__).parents[1]))
from callbacks_toy import OnEpoch, OnProgress

X = torch.linspace(0, 1, 90)[:, None] * torch.tensor([1.0, 0.5])
Y = torch.stack([X[:, 0], 1 - X[:, 0]], 1)
CROSS = {"loss": "cross_entropy"}


def recipes(*rates, **options):
    return [Recipe(lr=rate, **{"iterations": 130, "batch": 20, **options}) for rate in rates]


PLANS = {
    "sgd": recipes(0.01, 0.02, 0.01, weight_decay=0.01),
    "mixed": recipes(0.001, optimizer="adam") + recipes(0.01, 0.02),
    "dropped": recipes(0.01, 1e30, 0.02),
    "dropped alone": recipes(0.001, optimizer="adam") + recipes(1e30) + recipes(0.001, optimizer="adamw"),
    "trades": recipes(0.01, 0.02, 0.01, defence="trades", **CROSS),
    "average": recipes(0.01, ema=0.9, schedule="cosine", warmup=0.1),
    "bf16": recipes(0.001, precision="bf16", optimizer="adamw", **CROSS),
}


def snapshot(state):
    if state.epoch in (2, 9, 30):
        state.snapshot_best(torch.arange(len(state.loss)) == 0)


def run(plan, folder=None, stop=0, **options):
    torch.manual_seed(0)
    networks = [FCNet(2, 2, width=8, depth=2) for _ in plan]

    def interrupt(state):
        if state.step == stop:
            signal.raise_signal(signal.SIGTERM)

    callbacks = [OnEpoch(snapshot), OnProgress(interrupt)]
    options = {"rows": torch.stack([torch.arange(80)] * len(plan)), **options}
    train(networks, plan, range(len(plan)), X, Y, callbacks=callbacks, every=0, checkpoint=folder, **options)
    return networks


def bits(networks):
    """Also those of NaN, as which diverged parameters may end."""
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()]).view(torch.int32)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_resumed_training_has_the_bits_of_an_undisturbed_one(plan, tmp_path):
    expected = bits(run(plan))
    for stop in (1, 60, 102, 130):  # in the first pass, at the end of one, after the look at 101
        folder = tmp_path / str(stop)
        if stop < 130:
            with pytest.raises(TerminatedError, match="the same command resumes from there"):
                run(plan, folder, stop)
        else:
            run(plan, folder)  # it is over: nothing is trained
        assert torch.equal(bits(run(plan, folder)), expected)


def test_a_checkpoint_of_another_training_is_refused_and_says_that_starting_over_helps(tmp_path):
    run(PLANS["sgd"], tmp_path)
    other = recipes(0.01, 0.02, 0.03, weight_decay=0.01)
    with pytest.raises(CheckpointError, match="other settings, data or seed") as caught:
        run(other, tmp_path)
    assert caught.value.can_start_over


def test_an_average_or_bf16_trains_one_network_at_a_time():
    with pytest.raises(ValueError, match="one network trains at a time, not 2"):
        run(recipes(0.1, 0.1, ema=0.9))
