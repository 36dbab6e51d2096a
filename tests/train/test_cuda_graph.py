"""Training by steps that a CUDA graph can hold: on the CPU their work called again and again, on a GPU the graph itself."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hannet import FCNet, HanNet
from hannet.models.baselines import OrthogonalNet, frozen_hannet
from hannet.train import ensemble_backend
from hannet.train.batches import RowBatches
from hannet.train.cuda_graph import CUDAGraphRunner
from hannet.train.ensemble_backend import EnsembleBackend
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

sys.path.append(str(Path(__file__).parents[1]))
from callbacks_toy import OnEpoch, OnProgress

X = torch.linspace(0, 1, 250)[:, None] * torch.tensor([1.0, 0.5])
Y = nn.functional.one_hot((X[:, 0] > 0.4).long(), 2).float()
BUILD = {
    "HanNet": lambda: HanNet(2, 2, width=16, depth=5),
    "HanNet with dense ends": lambda: HanNet(2, 2, width=16, depth=6, dense_ends=True),
    "lipschitz HanNet": lambda: HanNet(2, 2, width=16, depth=5, lipschitz=True, reflections=2),
    "frozen HanNet": lambda: frozen_hannet(2, 2, width=16, depth=5),
    "FCNet": lambda: FCNet(2, 2, width=16, depth=2),
    "FCNet with GroupSort": lambda: FCNet(2, 2, width=15, depth=2, activation="groupsort5"),
}
DIVERGES = 1e18


def recipes(*rates, **options):
    """The schedule halves the rate: then rate * lr is the same number in float32 and float64."""
    return [Recipe(lr=rate, **{"iterations": 230, "batch": 50, "factor": 0.5, **options}) for rate in rates]


PLANS = {
    "sgd": recipes(0.01, 0.02, 0.002),
    "decay": recipes(0.01, 0.02, 0.002, weight_decay=0.01),
    "adam": recipes(0.001, 0.002, 0.004, optimizer="adam"),
    "adamw": recipes(0.001, 0.001, 0.001, optimizer="adamw", weight_decay=0.1),
    "mixed": recipes(0.001, optimizer="adam") + recipes(0.01, 0.02),
    "dropped": recipes(0.01, DIVERGES, 0.002),
    "dropped Adam": recipes(0.001, 1e30, 0.004, optimizer="adam"),
    "dropped mixed": recipes(0.001, optimizer="adam") + recipes(DIVERGES, 0.02),
    "all dropped": recipes(DIVERGES, DIVERGES, DIVERGES),
    "adversarial": recipes(0.01, 0.02, 0.002, loss="cross_entropy", defence="adversarial"),
    "orthogonal": recipes(0.01) + recipes(0.01, 0.002, orthogonal=0.1),
    "lasso": recipes(0.01, 0.02, 0.002, lasso=0.02),
}
COMMON = ("HanNet", "FCNet")  # other nets need not do everything
CASES = [(kind, plan) for kind in BUILD for plan in PLANS if kind in COMMON or plan in ("sgd", "adam", "dropped")]


class Called:
    """Stands in for a graph where there is no GPU: the work itself, each time."""

    def __init__(self, work, device):
        self.work, self.device = work, device

    def __call__(self):
        return self.work()


@pytest.fixture
def stepwise(monkeypatch):
    """The steps of a graph, on the CPU."""
    monkeypatch.setattr(EnsembleBackend, "_capturable", lambda _: True)
    monkeypatch.setattr(ensemble_backend, "CUDAGraphRunner", Called)


def three(kind):
    torch.manual_seed(0)
    return [BUILD[kind]() for _ in range(3)]


def outcome(networks, plan, device="cpu", **options):
    """Parameters, and what was reported of each epoch; one of the members ends as it was at the second."""
    networks = [copy.deepcopy(network).to(device) for network in networks]
    epochs, reported = [], []

    def note(state):
        epochs.append(state.loss)
        state.snapshot_best(torch.tensor([state.epoch == 2, False, False], device=device))

    dtype = next(networks[0].parameters()).dtype
    options = {name: value if name == "rows" else value.to(device) for name, value in options.items()}
    train(
        *(networks, plan, [4, 5, 4], X.to(device, dtype), Y.to(device, dtype)),
        **options,
        callbacks=[OnEpoch(note), OnProgress(lambda state: reported.append(state.loss.clone()))],
        every=0,
    )
    parameters = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
    return [each.cpu() for each in (torch.stack(parameters), torch.stack(epochs), torch.stack(reported))]


def more():
    generator = torch.Generator().manual_seed(1)
    rows = torch.stack([torch.randperm(250, generator=generator)[:120] for _ in range(3)])
    return {"rows": rows, "weights": torch.rand(250, generator=generator)}


def same_bits(some, others):
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize(("kind", "plan"), CASES)
def test_steps_by_a_counter_give_the_same_bits(kind, plan, request):
    networks = three(kind)
    expected = outcome(networks, PLANS[plan])
    request.getfixturevalue("stepwise")
    assert same_bits(outcome(networks, PLANS[plan]), expected)


def test_steps_by_a_counter_take_rows_and_weights(request):
    networks = three("HanNet")
    expected = outcome(networks, PLANS["dropped"], **more())
    request.getfixturevalue("stepwise")
    assert same_bits(outcome(networks, PLANS["dropped"], **more()), expected)


@pytest.mark.parametrize("options", [{"warmup": 0.1}, {"optimizer": "adam"}])
def test_steps_by_a_counter_follow_any_schedule(options, request):
    """Not to the bit: the rate is rounded to float32 before it is multiplied with lr, too."""
    networks, plan = three("FCNet"), recipes(0.001, 0.002, 0.003, schedule="cosine", **options)
    expected = outcome(networks, plan)
    request.getfixturevalue("stepwise")
    assert_close(outcome(networks, plan), expected, rtol=1e-4, atol=1e-5)


class OneDevice(TorchDispatchMode):
    """Lets no tensor of the CPU near those of the device, not even a number; a question to a tensor of "meta" raises anyway."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        assert all(t.device.type == "meta" for t in tensors), (func, [(t.device, t.shape) for t in tensors])
        self.calls += 1
        return result


class Watched(Called):
    """The same, where no tensor may come near the work but those of the device."""

    calls = 0

    def __call__(self):
        with OneDevice() as watched:
            result = self.work()
        Watched.calls += watched.calls
        return result


def far(kind, plan):
    """A training on "meta", where tensors have no values to ask for."""
    networks = [network.to("meta") for network in three(kind)]
    steps = EnsembleBackend(networks, plan, plan[0], RowBatches([X.to("meta"), Y.to("meta")], None, [4, 5, 4], 50))
    steps.track_epochs = True
    return steps


@pytest.mark.parametrize(("kind", "plan"), [case for case in CASES if case[1] != "all dropped"])
def test_a_step_stays_on_its_device_and_asks_it_nothing(kind, plan):
    steps = far(kind, PLANS[plan])
    batch = next(iter(steps.batches))
    with OneDevice() as watched:
        for _ in range(2):
            outputs, _ = steps._take_step(batch, 0.5)
    assert outputs.shape == (3, 50, 2)
    assert watched.calls > 50


SGD = [case for case in CASES if all(recipe.optimizer == "sgd" for recipe in PLANS[case[1]])]


@pytest.mark.parametrize(("kind", "plan"), SGD)  # PyTorch has its fused Adam of a tensor for CPUs and GPUs only
def test_a_step_by_a_counter_stays_on_its_device_and_asks_it_nothing(kind, plan, monkeypatch):
    monkeypatch.setattr(ensemble_backend, "CUDAGraphRunner", Watched)
    monkeypatch.setattr(Watched, "calls", 0)
    for (outputs, _), _ in zip(far(kind, PLANS[plan])._replay_steps(), range(7), strict=False):
        assert outputs.shape == (3, 50, 2)
    assert Watched.calls > 7 * 25


@pytest.mark.parametrize(("kind", "plan"), [case for case in CASES if case[1] != "all dropped"])
def test_what_a_graph_works_on_stays_where_it_is(kind, plan):
    """Until a member is dropped."""
    networks, recipes = three(kind), PLANS[plan]
    steps = EnsembleBackend(networks, recipes, recipes[0], RowBatches([X, Y], None, [4, 5, 4], 50))

    def places():
        kept = (
            *steps.members.parameters.values(),
            *steps.optimizer.state_dict().values(),
            steps.sum,
            steps.members.alive,
        )
        return [tensor.data_ptr() for tensor in kept]

    before = places()
    steps.track_epochs = True
    for number in range(1, 12):
        steps.step(100 * number)  # at every hundredth subnormal numbers go
        if number % 5 == 0:
            steps.end_epoch()
            steps.snapshot_best(torch.tensor([True, False, False]))
    assert places() == before


@pytest.mark.parametrize(("plan", "graphs"), [("sgd", 1), ("dropped", 2), ("all dropped", 1)])
def test_a_dropped_member_asks_for_another_graph(plan, graphs, monkeypatch):
    made = []

    def make(work, device):
        made.append(device)
        return work

    monkeypatch.setattr(EnsembleBackend, "_capturable", lambda _: True)
    monkeypatch.setattr(ensemble_backend, "CUDAGraphRunner", make)
    train(three("HanNet"), PLANS[plan], [4, 5, 4], X, Y)
    assert made == [torch.device("cpu")] * graphs


def test_trades_draws_its_noise_on_the_cpu_and_sends_it():
    plan = recipes(0.01, loss="cross_entropy", defence="trades")
    steps = EnsembleBackend(
        [HanNet(2, 2).to("meta")], plan, plan[0], RowBatches([X.to("meta"), Y.to("meta")], None, [4], 50)
    )
    outputs, _ = steps._take_step(next(iter(steps.batches)), 0.5)
    assert outputs.device.type == "meta"


def test_devices_that_differ_are_named():
    nets = [FCNet(2, 2, 4, 1), FCNet(2, 2, 4, 1)]
    for networks, x, y, weights in (
        ([nets[0], copy.deepcopy(nets[1]).to("meta")], X, Y, None),
        (nets, X.to("meta"), Y, None),
        (nets, X, Y.to("meta"), None),
        (nets, X, Y, torch.ones(250, device="meta")),
    ):
        with pytest.raises(ValueError, match="must be on one device, got cpu, meta"):
            train(networks, recipes(0.1, 0.1), [0, 1], x, y, weights=weights)


def test_a_graph_holds_what_it_can():
    def capturable(network, plan, where):
        steps = EnsembleBackend([network], [plan], plan, RowBatches([X, Y], None, [0], 50))
        steps.device = torch.device(where)
        return steps._capturable()

    plain, trades = Recipe(), Recipe(loss="cross_entropy", defence="trades")
    assert not capturable(HanNet(2, 2), plain, "cpu")
    assert all(capturable(build(), plain, "cuda") for build in BUILD.values())
    assert capturable(HanNet(2, 2), Recipe(loss="cross_entropy", defence="adversarial"), "cuda")
    assert not capturable(HanNet(2, 2), trades, "cuda")
    assert not capturable(OrthogonalNet(2, 2), plain, "cuda")  # its solver waits for the device
    listened = HanNet(2, 2)
    listened.layers[0].register_forward_hook(lambda *_: None)
    assert not capturable(listened, plain, "cuda")


def eagerly(networks, plan, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble_backend, "CUDAGraphRunner", Called)
        return outcome(networks, plan, "cuda", **options)


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "plan"), CASES)
def test_a_graph_equals_its_work_called_each_time(kind, plan):
    networks = three(kind)
    assert_close(outcome(networks, PLANS[plan], "cuda"), eagerly(networks, PLANS[plan]), equal_nan=True)


@pytest.mark.gpu
def test_a_graph_takes_rows_and_weights():
    networks = three("HanNet")
    found = outcome(networks, PLANS["dropped"], "cuda", **more())
    assert_close(found, eagerly(networks, PLANS["dropped"], **more()), equal_nan=True)


@pytest.mark.gpu
@pytest.mark.parametrize("plan", ["sgd", "adam", "decay", "orthogonal", "lasso"])
@pytest.mark.parametrize("kind", COMMON)
def test_a_few_steps_on_a_gpu_are_those_of_the_cpu(kind, plan):
    """The same batches, in float64; a few, because small differences grow."""
    networks = [network.double() for network in three(kind)]
    short = [Recipe(**recipe.differences() | {"iterations": 12}) for recipe in PLANS[plan]]
    found, expected = (outcome(networks, short, device) for device in ("cuda", "cpu"))
    assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("plan", ["sgd", "adam", "dropped"])
def test_members_under_a_graph_equal_the_runs_alone(plan):
    networks, x, y = three("HanNet"), X.cuda(), Y.cuda()
    together, alone = ([copy.deepcopy(network).cuda() for network in networks] for _ in range(2))
    short = [Recipe(**recipe.differences() | {"iterations": 130}) for recipe in PLANS[plan]]
    train(together, short, [4, 5, 4], x, y)
    for member in (0, 2):
        train([alone[member]], [short[member]], [4], x, y)
        for p, q in zip(together[member].parameters(), alone[member].parameters(), strict=True):
            assert_close(p, q, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["TRADES", "OrthogonalNet"])
def test_what_no_graph_holds_trains_on_a_gpu_all_the_same(kind):
    network = (OrthogonalNet(2, 2) if kind == "OrthogonalNet" else HanNet(2, 2)).cuda()
    before = copy.deepcopy(network)
    plan = recipes(0.01, iterations=20, loss="cross_entropy", defence="trades" if kind == "TRADES" else "")
    train([network], plan, [0], X.cuda(), Y.cuda())
    pairs = list(zip(network.parameters(), before.parameters(), strict=True))
    assert all(p.isfinite().all() for p, _ in pairs)
    assert any(not torch.equal(p, q) for p, q in pairs)


@pytest.mark.gpu
def test_a_graph_replays_what_it_captured():
    count, ran = torch.zeros(1, device="cuda"), []

    def work():
        ran.append(1)
        return count.add_(1).clone()

    graph = CUDAGraphRunner(work, count.device)
    assert [graph().item() for _ in range(10)] == list(range(1, 11))
    assert len(ran) == 4
