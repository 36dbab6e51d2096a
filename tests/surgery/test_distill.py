import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from hannet.surgery import StopEarly, SurgeryError, distill, replace_feedforward, replace_linear
from hannet.surgery.distill import END_TO_END, LAYERWISE, activations, model_before
from hannet.train.callbacks import Callback
from hannet.train.errors import TrainingError

SHORT = replace(LAYERWISE, iterations=60, batch=64)
ENDS = replace(END_TO_END, epochs=6, lr=0.005)


PARTS = [
    {"end_to_end": None},
    {"layerwise": None},
    {"layerwise": None, "hidden": 1.0},
    {"layerwise": None, "loss": "kl", "temperature": 2.0},
]


class Net(nn.Module):
    """A linear layer, a feed-forward with a skip connection, a linear layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.block = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 8))

    def forward(self, x, more=None):
        x = self.first(x if more is None else x + more).tanh()
        return self.last(x + self.block(x))


def operated():
    torch.manual_seed(1)
    model = Net().eval()
    teacher = copy.deepcopy(model)
    return teacher, model, replace_feedforward(model)


def batches(count=6):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(32, 6, generator=generator) for _ in range(count)]


def distance(teacher, model):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float((teacher(x) - model.eval()(x)).square().mean())


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_each_part_brings_the_student_nearer(options):
    teacher, model, done = operated()
    before, teachers = distance(teacher, model), copy.deepcopy(teacher.state_dict())
    distill(done, None, batches(), **({"layerwise": SHORT, "end_to_end": ENDS} | options))
    assert distance(teacher, model) < (0.9 if "loss" in options else 0.6) * before
    assert all(torch.equal(tensor, teacher.state_dict()[name]) for name, tensor in teachers.items())


def test_layerwise_changes_the_replaced_layers_alone():
    teacher, model, done = operated()
    distill(done, teacher, batches(), layerwise=SHORT, end_to_end=None)
    assert torch.equal(model.first.weight, teacher.first.weight)
    assert not model.training


def test_activations_are_what_the_layers_take_and_give():
    teacher, _, done = operated()
    ((x, y),) = activations(teacher, done.changes, batches(), 100)
    assert x.shape == y.shape == (100, 8)
    torch.testing.assert_close(teacher.block(x), y)


def test_batches_may_be_tuples_and_mappings():
    teacher, model, done = operated()
    x = batches(2)
    before = distance(teacher, model)
    distill(done, teacher, [(x[0], x[1]), {"x": x[0], "more": None}, x[1]], layerwise=SHORT, end_to_end=None)
    assert distance(teacher, model) < before


def test_two_runs_are_equal_and_an_interrupted_one_resumes(tmp_path):
    class Interrupt(Callback):
        def on_epoch_end(self, state):
            if state.epoch == 3:
                raise KeyboardInterrupt

    ends = []
    for _ in range(2):
        _, model, done = operated()
        distill(done, None, batches(), layerwise=SHORT, end_to_end=ENDS)
        ends.append(model.state_dict())
    _, model, done = operated()
    with pytest.raises(KeyboardInterrupt):
        distill(
            done,
            None,
            batches(),
            layerwise=SHORT,
            end_to_end=ENDS,
            callbacks=[Interrupt()],
            checkpoint=tmp_path,
            minutes=0,
        )
    _, model, done = operated()
    distill(
        done, None, batches(), layerwise=SHORT, end_to_end=ENDS, callbacks=[Callback()], checkpoint=tmp_path, minutes=0
    )
    ends.append(model.state_dict())
    for other in ends[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in ends[0].items())


def test_training_stops_early_with_the_best_weights():
    teacher, model, done = operated()
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, state):
            epochs.append(state.epoch)

    steep = replace(END_TO_END, epochs=50, lr=1e-12, schedule="constant")
    before = distance(teacher, model)
    distill(done, None, batches(), layerwise=None, end_to_end=steep, callbacks=[Count(), StopEarly(patience=2)])
    assert len(epochs) == 3
    assert distance(teacher, model) == pytest.approx(before, rel=1e-4)


def test_transformers_learn_from_themselves(transformer):
    model, run = transformer("bert")
    expected = run().detach()
    done = replace_feedforward(model)
    before = float((run() - expected).detach().square().mean())
    given = [{"input_ids": torch.randint(30, (8, 6))} for _ in range(4)]
    distill(done, None, given, layerwise=SHORT, end_to_end=replace(ENDS, epochs=1), loss="kl", hidden=0.5)
    assert float((run() - expected).detach().square().mean()) < before


def test_bad_arguments_are_named():
    *_, done = operated()
    with pytest.raises(ValueError, match="loss must be one of mse, kl"):
        distill(done, None, batches(), loss="l1")
    with pytest.raises(ValueError, match="batches must not be empty"):
        distill(done, None, [])
    done.undo()
    with pytest.raises(SurgeryError, match=r"not carried out: call apply\(\) first"):
        distill(done, None, batches())


def test_a_layer_that_no_batch_reaches_is_named():
    class Lazy(Net):
        def forward(self, x):
            return self.last(self.first(x))

    model = Lazy()
    done = replace_linear(model, "block.0", by=1, steps=0)
    with pytest.raises(SurgeryError, match=r"block.0: none of the batches reaches it"):
        distill(done, None, batches())


def assert_same(model, teacher):
    """All parameters and buffers, to the bit."""
    ours, theirs = model.state_dict(), teacher.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_distilled_model_comes_back_to_the_bit():
    teacher, model, done = operated()
    distill(done, None, batches(), layerwise=SHORT, end_to_end=ENDS)
    assert not torch.equal(model.first.weight, teacher.first.weight)
    assert_same(model_before(done), teacher)
    done.undo()
    assert_same(model, teacher)


def test_a_second_distillation_has_the_same_teacher():
    teacher, model, done = operated()
    found = []
    for _ in range(3):
        distill(done, None, batches(), layerwise=None, end_to_end=ENDS)
        found.append(distance(teacher, model))
    assert found[2] < found[1] < found[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_batches_that_are_not_finite_are_refused_before_a_step(value):
    _, model, done = operated()
    before = copy.deepcopy(model.state_dict())
    given = batches()
    given[2][3, 1] = value
    with pytest.raises(ValueError, match=r"batches\[2\] holds NaN or infinity"):
        distill(done, None, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_a_training_spoilt_comes_back():
    teacher, model, done = operated()
    with pytest.raises(TrainingError):
        distill(done, None, batches(), layerwise=None, end_to_end=replace(ENDS, lr=1e30))
    done.undo()
    assert_same(model, teacher)
