"""One training loop, for one network or for many of one shape side by side (members)."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from torch import Tensor, nn

from ..ops.denormals import zero_subnormals
from .adversarial import AdversarialTraining
from .backprop import is_supported
from .cuda_graph import CUDAGraphRunner
from .ensemble import Ensemble
from .optimizers import SGD, Adam, Optimizer, OptimizerGroup
from .recipe import Recipe

_LOOK_EVERY = 100  # steps between two looks for members that diverged, and for subnormal numbers


@dataclass
class Progress:
    """Where a training stands. predict: x (n, in) or (members, n, in) -> (members, n, out), without gradients."""

    step: int
    steps: int
    seconds: float
    loss: Tensor
    predict: Callable[[Tensor], Tensor]


@dataclass
class Epoch:
    """The end of one pass over the training rows.

    loss: (members,), the mean over the pass, measured before each step. predict: x (n, in) or (members, n, in) ->
    (members, n, out), without gradients. Both are NaN for the retired. `keep(better)` remembers the present parameters of
    those members, for the networks to end with instead of the last; `stop()` ends the training here.
    """

    number: int
    epochs: int
    seconds: float
    loss: Tensor
    predict: Callable[[Tensor], Tensor]
    keep: Callable[[Tensor], None]
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """End the training here."""
        self.stopped = True


_GATHER = 1 << 23  # numbers gathered at once, as many batches as that makes: fewer calls, bounded memory


class _Batches:
    """Shuffled batches without end.  Members of one seed see the same; a last batch that is not full is left out."""

    def __init__(self, columns: Sequence[Tensor], rows: Tensor | None, seeds: Sequence[int], batch: int):
        self.columns, self.seeds = columns, list(seeds)
        self.rows = None if rows is None else rows.cpu()
        self.n = len(columns[0]) if rows is None else rows.shape[1]
        self.batch = min(batch, self.n)
        self.per_epoch = self.n // self.batch
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        size = len(self.seeds) * self.batch * sum(column[0].numel() for column in columns)
        self.at_once = min(max(_GATHER // size, 1), 64)

    def passes(self) -> Iterator[Tensor]:
        """Of one pass after the other the rows of its batches, (batches, members, batch), where the columns are.

        They are drawn on the CPU, so that the seed means the same everywhere.
        """
        while True:
            drawn = {seed: torch.randperm(self.n, generator=g, device="cpu") for seed, g in self.generators.items()}
            order = torch.stack([drawn[seed] for seed in self.seeds])
            if self.rows is not None:
                order = self.rows.gather(1, order)
            order = order[:, : self.per_epoch * self.batch].view(len(self.seeds), self.per_epoch, self.batch)
            yield _sent(order.transpose(0, 1), self.columns[0].device)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Of every column (n, ...) a part (members, batch, ...)."""
        for order in self.passes():
            for some in order.split(self.at_once):
                yield from map(list, zip(*(column[some] for column in self.columns), strict=True))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def device() -> torch.device:
    """Where experiments train: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    networks: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    x: Tensor,
    y: Tensor,
    *,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    every: float = 0.5,
) -> None:
    """Trains networks of one shape together, in place.

    x: (n, in); y: (n, out); weights: (n,), of the rows in the loss: all on the device of the networks, where they train; on a
    GPU the steps are replayed as a CUDA graph, if it can hold them. Recipes may differ in lr, weight_decay, orthogonal,
    optimizer and momentum; a seed fixes the order of the batches, so that a network's result does not depend on its company.
    Parameters that do not require gradients stay as they are. rows: (members, m), the rows of x
    and y that each member trains on (default: all). A member whose loss is no longer finite is retired as it stands.
    `on_progress` is called about every `every` seconds and at the end, `on_epoch` after each pass over the rows.
    Raises ValueError where the arguments do not fit together.
    """
    recipe = _common(networks, recipes, seeds, x, y)
    _check(len(networks), x, rows, weights)
    columns = [x, y] if weights is None else [x, y, weights]
    _check_devices(networks, columns)
    _Training(networks, recipes, recipe, _Batches(columns, rows, seeds, recipe.batch)).run(on_epoch, on_progress, every)


_Moved = tuple[Tensor, list[Tensor]]  # outputs and targets of a step


class _Training:
    def __init__(self, networks: Sequence[nn.Module], recipes: Sequence[Recipe], recipe: Recipe, batches: _Batches):
        self.recipe, self.batches = recipe, batches
        self.members = Ensemble(networks)
        self.trained = [name for name, parameter in networks[0].named_parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(self._trained(), recipes)
        self.decays = any(recipe.weight_decay for recipe in recipes)
        self.device = batches.columns[0].device
        self.orthogonal: Tensor | None = None
        if any(recipe.orthogonal for recipe in recipes):
            self.orthogonal = torch.tensor([recipe.orthogonal for recipe in recipes], device=self.device)
        linear = (f"{name}.weight".lstrip(".") for name, m in networks[0].named_modules() if isinstance(m, nn.Linear))
        self.dense = [name for name in linear if name in self.trained]
        self.loss = recipe.loss_function()
        self.defence = AdversarialTraining(recipe, batches.seeds) if recipe.defence else None
        self.sum = torch.zeros(len(networks), dtype=torch.float64, device=self.device)
        self.graph: CUDAGraphRunner[_Moved] | None = None
        self.start = time.perf_counter()
        x, y = batches.columns[:2]
        if (out := self.members.predict(x[:1]).shape[-1]) != y.shape[1]:
            raise ValueError(f"y must have a column for each of the {out} outputs, got {tuple(y.shape)}")

    def run(
        self,
        on_epoch: Callable[[Epoch], None] | None,
        on_progress: Callable[[Progress], None] | None,
        every: float,
    ) -> None:
        iterations, per_epoch, last = self.recipe.iterations, self.batches.per_epoch, self.start
        for step, moved in zip(range(1, iterations + 1), self._moves(on_epoch is not None), strict=False):
            losses, over = self._look(step, *moved)
            if on_epoch and step % per_epoch == 0:
                over = self._epoch(step // per_epoch, on_epoch) or over
            over = over or step == iterations
            now = time.perf_counter()
            if on_progress and (over or now - last > every):
                reached = iterations if over else step
                loss = self.members.spread(losses())
                on_progress(Progress(reached, iterations, now - self.start, loss, self.members.predict))
                last = now
            if over:
                break
        self.graph = None  # else it and this training keep each other, and x, on the device
        self._zero_subnormals()
        self.members.write_back()

    def _capturable(self) -> bool:
        """Whether a graph can hold a step. The noise of TRADES comes from the CPU; foreign modules may wait for the device."""
        return self.device.type == "cuda" and self.recipe.defence != "trades" and is_supported(self.members.networks[0])

    def _moves(self, summed: bool) -> Iterator[_Moved]:
        """Steps without end. summed: add the losses to the epoch's."""
        if self._capturable():
            return self._replays(summed)
        return (self._move(batch, self.recipe.rate(step), summed) for step, batch in enumerate(self.batches))

    def _replays(self, summed: bool) -> Iterator[_Moved]:
        """The same steps, each the same work on the same tensors: batch and rate are found by a counter beside them."""
        batches, shape = self.batches, (self.batches.per_epoch, len(self.members.networks), self.batches.batch)
        rates = [self.recipe.rate(step) for step in range(self.recipe.iterations)]
        rate = torch.tensor(rates, dtype=torch.float32, device=self.device)
        order = torch.empty(shape, dtype=torch.int64, device=self.device)
        done = torch.zeros(1, dtype=torch.int64, device=self.device)

        def work() -> _Moved:
            some = order.index_select(0, done % batches.per_epoch)[0]
            moved = self._move([column[some] for column in batches.columns], rate.index_select(0, done)[0], summed)
            done.add_(1)
            return moved

        for drawn in batches.passes():
            order.copy_(drawn)
            for _ in range(batches.per_epoch):
                self.graph = self.graph or CUDAGraphRunner(work, self.device)
                yield self.graph()

    def _zero_subnormals(self) -> None:
        """Weight decay leads to them, and by values, not by threads, so that these change no bit."""
        if self.decays:
            zero_subnormals([*self._trained().values(), *self.optimizer.kept()])

    def _trained(self) -> dict[str, Tensor]:
        return {name: self.members.parameters[name] for name in self.trained}

    def _move(self, batch: list[Tensor], rate: float | Tensor, summed: bool) -> _Moved:
        """One step, without a question to the device: what the living members gave before it, and should have given."""
        members, recipe = self.members, self.recipe
        x, *targets = batch if members.complete else [part[members.alive] for part in batch]
        if self.defence is None:
            outputs, gradients = members.gradients(x, lambda outputs: self.loss.slope(outputs, *targets))
        else:
            outputs, gradients = self.defence.gradients(members, self.loss, x, targets)
        if recipe.lasso:
            first = next(iter(members.parameters))
            _add_lasso(gradients[first], members.parameters[first], recipe.lasso)
        if self.orthogonal is not None:
            for name in self.dense:
                gradients[name] = gradients[name] + _orthogonal_slope(
                    members.parameters[name], self.orthogonal[members.alive]
                )
        self.optimizer.step(gradients, rate)
        if summed:
            self.sum += members.spread(self.loss.value(outputs, *targets))
        return outputs, targets

    def _look(self, step: int, outputs: Tensor, targets: list[Tensor]) -> tuple[Callable[[], Tensor], bool]:
        """What is not done at each step. Returns how to get the living members' losses, and whether no member lives."""
        if step % _LOOK_EVERY == 0:
            self._zero_subnormals()
        if step % _LOOK_EVERY == 1 and not (finite := outputs.isfinite().all(2).all(1)).all():
            kept = finite.cpu().nonzero().flatten()
            if not len(kept):
                return lambda: self.loss.value(outputs, *targets), True
            self.members.retire(kept)
            self.optimizer.retire(self._trained(), kept)
            self.graph = None  # it worked on the parameters of before
            return lambda: self.loss.value(outputs, *targets)[kept], False
        return lambda: self.loss.value(outputs, *targets), False

    def _epoch(self, number: int, on_epoch: Callable[[Epoch], None]) -> bool:
        mean = self.sum / self.batches.per_epoch
        self.sum.zero_()
        seconds, epochs = time.perf_counter() - self.start, self.recipe.iterations // self.batches.per_epoch
        epoch = Epoch(number, epochs, seconds, mean.float(), self.members.predict, self.members.keep)
        on_epoch(epoch)
        return epoch.stopped


def _optimizer(parameters: dict[str, Tensor], recipes: Sequence[Recipe]) -> Optimizer:
    runs = [list(run) for _, run in groupby(recipes, key=lambda recipe: (recipe.optimizer, recipe.momentum))]
    if len(runs) > 1:
        return OptimizerGroup(
            parameters, [len(run) for run in runs], lambda number, mine: _optimizer(dict(mine), runs[number])
        )
    lr, decay = (
        torch.tensor([getattr(recipe, name) for recipe in recipes], device="cpu") for name in ("lr", "weight_decay")
    )
    if recipes[0].optimizer == "sgd":
        return SGD(parameters, lr, decay, recipes[0].momentum)
    return Adam(parameters, lr, decay, decoupled=recipes[0].optimizer == "adamw")


def _orthogonal_slope(weight: Tensor, strengths: Tensor) -> Tensor:
    """4 strength (W W^T - I) W, by the smaller of the two Gram matrices: the other gives the same."""
    tall = weight.shape[1] > weight.shape[2]
    gram = weight.mT @ weight if tall else weight @ weight.mT
    gram.diagonal(dim1=1, dim2=2).sub_(1)
    gram *= 4 * strengths[:, None, None]
    return weight @ gram if tall else gram @ weight


@torch.no_grad()
def _add_lasso(gradient: Tensor, weight: Tensor, strength: float) -> None:
    norms = weight.norm(dim=-1, keepdim=True).clamp_min(1e-3)  # a row near 0 rests there instead of jumping over it
    gradient.add_(weight / norms, alpha=strength)


def _common(
    networks: Sequence[nn.Module], recipes: Sequence[Recipe], seeds: Sequence[int], x: Tensor, y: Tensor
) -> Recipe:
    if not len(networks) == len(recipes) == len(seeds) > 0:
        raise ValueError(
            f"give as many recipes and seeds as networks: {len(networks)}, {len(recipes)} and {len(seeds)} came"
        )
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"x and y must be (n, in) and (n, out), got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must have the same rows, at least one: {len(x)} and {len(y)} came")
    named = dict(networks[0].named_parameters())
    trained = [[name for name, p in network.named_parameters() if p.requires_grad] for network in networks]
    if not trained[0] or any(names != trained[0] for names in trained):
        raise ValueError("networks trained together must have parameters that require gradients, the same in each")
    if recipes[0].lasso and not next(iter(named), "").endswith("weight"):
        raise ValueError("lasso needs a network whose first parameter is the weight of a Linear")
    own = {name: getattr(Recipe, name) for name in ("lr", "weight_decay", "orthogonal", "optimizer", "momentum")}
    common = {replace(recipe, **own) for recipe in recipes}
    if len(common) > 1:
        raise ValueError(f"recipes trained together may differ in {', '.join(own)} only")
    return common.pop()


def _check(members: int, x: Tensor, rows: Tensor | None, weights: Tensor | None) -> None:
    if rows is not None and (rows.dim() != 2 or len(rows) != members or not rows.numel()):
        raise ValueError(f"rows must be (members, at least one row), got {tuple(rows.shape)} for {members} members")
    if rows is not None and not (rows.dtype == torch.int64 and rows.min() >= 0 and rows.max() < len(x)):
        raise ValueError(
            f"rows must be int64 from 0 to {len(x) - 1}, got {rows.dtype} from {rows.min()} to {rows.max()}"
        )
    if weights is not None and weights.shape != x.shape[:1]:
        raise ValueError(f"weights must be ({len(x)},), one a row of x, got {tuple(weights.shape)}")


def _check_devices(networks: Sequence[nn.Module], columns: Sequence[Tensor]) -> None:
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    devices = {t.device: None for t in (*tensors, *columns)}
    if len(devices) > 1:
        raise ValueError(f"networks, x, y and weights must be on one device, got {', '.join(map(str, devices))}")


def predict(networks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """What each network makes of x, without gradients.  x: (n, in) -> (members, n, out)."""
    return Ensemble(networks).predict(x)
