"""Members trained side by side: fused forward and backward passes, replayed as a CUDA graph where one can hold a step."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..ops.denormals import zero_subnormals
from .adversarial import AdversarialTraining
from .backprop import is_supported
from .batches import RowBatches
from .checkpoint import part_of
from .cuda_graph import CUDAGraphRunner
from .ensemble import Ensemble
from .optimizers import build_optimizer
from .penalties import add_lasso, orthogonal_gradient
from .recipe import Recipe

_CHECK_INTERVAL = 100  # steps between two checks for members that diverged, and for subnormal numbers
_StepOutput = tuple[Tensor, list[Tensor]]  # outputs and targets of a step


class EnsembleBackend:
    """One step of all living members at a time.  recipe: what their recipes have in common."""

    is_main = True

    def __init__(self, networks: Sequence[nn.Module], recipes: Sequence[Recipe], recipe: Recipe, batches: RowBatches):
        self.recipe, self.batches = recipe, batches
        self.per_epoch = batches.per_epoch
        self.total = recipe.steps(self.per_epoch)
        self.schedule = recipe.learning_rates(self.total)
        self.track_epochs = False  # whether to sum the losses of each epoch
        self.done = 0
        self.members = Ensemble(networks)
        self.predict, self.snapshot_best = self.members.predict, self.members.snapshot_best
        self.trained = [name for name, parameter in networks[0].named_parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(self._trained(), recipes)
        self.decays = any(recipe.weight_decay for recipe in recipes)
        self.device = batches.columns[0].device
        self.orthogonal: Tensor | None = None
        if any(recipe.orthogonal for recipe in recipes):
            self.orthogonal = torch.tensor([recipe.orthogonal for recipe in recipes], device=self.device)
        linear = (f"{name}.weight".lstrip(".") for name, m in networks[0].named_modules() if isinstance(m, nn.Linear))
        self.dense = [name for name in linear if name in self.trained]
        self.loss_function = recipe.loss_function()
        self.defence = AdversarialTraining(recipe, batches.seeds) if recipe.defence else None
        self.sum = torch.zeros(len(networks), dtype=torch.float64, device=self.device)
        self.graph: CUDAGraphRunner[_StepOutput] | None = None
        self.steps: Iterator[_StepOutput] | None = None
        self.last_output: _StepOutput | None = None
        self.kept: Tensor | None = None  # the members of the last step that are still alive, if it dropped some
        x, y = batches.columns[:2]
        if (out := self.predict(x[:1]).shape[-1]) != y.shape[1]:
            raise ValueError(f"y must have a column for each of the {out} outputs, got {tuple(y.shape)}")

    def step(self, number: int) -> bool:
        """The step of that number, from 1 on. Returns whether a member lives."""
        self.steps = self.steps or self._iterate_steps()
        self.last_output = outputs, _ = next(self.steps)
        self.done, self.kept = number, None
        if number % _CHECK_INTERVAL == 0:
            self._zero_subnormals()
        if number % _CHECK_INTERVAL == 1 and not (finite := outputs.isfinite().all(2).all(1)).all():
            return self._drop(finite.cpu().nonzero().flatten())
        return True

    def _drop(self, kept: Tensor) -> bool:
        if not len(kept):
            return False
        self.members.drop_diverged(kept)
        self.optimizer.select(self._trained(), kept)
        self.graph = None  # it worked on the parameters of before
        self.kept = kept
        return True

    def loss(self) -> Tensor:
        """The loss of each member in the last step.  (members,)."""
        assert self.last_output
        outputs, targets = self.last_output
        values = self.loss_function.value(outputs, *targets)
        return self.members.scatter_to_members(values if self.kept is None else values[self.kept])

    def end_epoch(self) -> tuple[Tensor, None]:
        """The mean loss over the epoch, (members,)."""
        mean = self.sum / self.per_epoch
        self.sum.zero_()
        return mean.float(), None

    def finish(self) -> None:
        """Leaves the networks as they are to be used."""
        self.graph = self.steps = None  # else graph and backend keep each other, and x, on the device
        self._zero_subnormals()
        self.members.write_back()

    def _capturable(self) -> bool:
        """Whether a graph can hold a step. The noise of TRADES comes from the CPU; foreign modules may wait for the device."""
        return self.device.type == "cuda" and self.recipe.defence != "trades" and is_supported(self.members.networks[0])

    def _iterate_steps(self) -> Iterator[_StepOutput]:
        """Steps without end."""
        if self._capturable():
            return self._replay_steps()
        rate, total = self.schedule.rate, self.total
        return (self._take_step(batch, rate(step / total)) for step, batch in enumerate(self.batches, self.done))

    def _replay_steps(self) -> Iterator[_StepOutput]:
        """The same steps, each the same work on the same tensors: batch and rate are found by a counter beside them."""
        batches, shape = self.batches, (self.per_epoch, len(self.members.networks), self.batches.batch)
        rates = [self.schedule.rate(step / self.total) for step in range(self.total)]
        rate = torch.tensor(rates, dtype=torch.float32, device=self.device)
        order = torch.empty(shape, dtype=torch.int64, device=self.device)
        done = torch.full((1,), self.done, dtype=torch.int64, device=self.device)

        def work() -> _StepOutput:
            some = order.index_select(0, done % batches.per_epoch)[0]
            output = self._take_step([column[some] for column in batches.columns], rate.index_select(0, done)[0])
            done.add_(1)
            return output

        for drawn in batches.passes():
            order.copy_(drawn)
            for _ in range(batches.skipped, batches.per_epoch):
                self.graph = self.graph or CUDAGraphRunner(work, self.device)
                yield self.graph()
            batches.skipped = 0

    def _zero_subnormals(self) -> None:
        """Weight decay leads to them, and by values, not by threads, so that these change no bit."""
        if self.decays:
            zero_subnormals([*self._trained().values(), *self.optimizer.state_dict().values()])

    def _trained(self) -> dict[str, Tensor]:
        return {name: self.members.parameters[name] for name in self.trained}

    def _take_step(self, batch: list[Tensor], rate: float | Tensor) -> _StepOutput:
        """One step, without a question to the device: what the living members gave before it, and should have given."""
        members, recipe, loss = self.members, self.recipe, self.loss_function
        x, *targets = batch if members.complete else [part[members.alive] for part in batch]
        if self.defence is None:
            outputs, gradients = members.gradients(x, lambda outputs: loss.slope(outputs, *targets))
        else:
            outputs, gradients = self.defence.gradients(members, loss, x, targets)
        if recipe.lasso:
            first = next(iter(members.parameters))
            add_lasso(gradients[first], members.parameters[first], recipe.lasso)
        if self.orthogonal is not None:
            strengths = self.orthogonal[members.alive]
            for name in self.dense:
                gradients[name] = gradients[name] + orthogonal_gradient(members.parameters[name], strengths)
        self.optimizer.step(gradients, rate)
        if self.track_epochs:
            self.sum += members.scatter_to_members(loss.value(outputs, *targets))
        return outputs, targets

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """All of the state, for a checkpoint."""
        generators = self.defence.generators if self.defence else []
        parts = {
            "members": self.members.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
            "noise": {str(number): generator.get_state() for number, generator in enumerate(generators)},
        }
        return {f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()} | {
            "sum": self.sum
        }, {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], _: Mapping[str, object], step: int) -> None:
        """What `state_dict` gave after so many steps."""
        self.members.load_state_dict(part_of("members.", tensors))
        living = tensors["members.living"]
        if not self.members.complete:
            self.optimizer.select(self._trained(), living)
        saved = part_of("optimizer.", tensors)
        for name, tensor in self.optimizer.state_dict().items():
            tensor.copy_(saved[name])
        self.batches.load_state_dict(part_of("batches.", tensors), step)
        for number, generator in enumerate(self.defence.generators if self.defence else []):
            generator.set_state(tensors[f"noise.{number}"])
        self.sum.copy_(tensors["sum"])
        self.done = step
