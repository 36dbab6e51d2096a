"""Any nn.Module trained by autograd and PyTorch's optimizers: autocast, an average of the weights, several processes.

What is random in a step depends on the seed and the number of the step alone, so an interrupted training resumes as if nothing had
happened, and several processes (`torchrun`, `accelerate launch`) share each batch and get what one process gets.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .batches import BatchSource, LoaderTimer, seed_of
from .checkpoint import optimizer_state, part_of, restore_optimizer
from .distributed import SingleProcess
from .errors import TrainingError
from .losses import single_network_loss
from .optimizers import build_torch_optimizer
from .recipe import PRECISIONS, Recipe

_CHECK_INTERVAL = 50  # steps between two checks of what the device computed


class ModuleBackend:
    """One step of a network at a time; `members` of one."""

    track_epochs = True

    def __init__(
        self, network: nn.Module, recipe: Recipe, seed: int, batches: BatchSource, processes: SingleProcess
    ) -> None:
        if recipe.lasso or recipe.orthogonal or recipe.defence:
            raise ValueError("lasso, orthogonal and defence need networks that train side by side, in fp32 without ema")
        self.network, self.recipe, self.seed = network, recipe, seed
        self.batches, self.processes, self.device = batches, processes, processes.device
        self.is_main, self.per_epoch = processes.first, batches.per_epoch
        self.total = recipe.steps(self.per_epoch)
        self.schedule = recipe.learning_rates(self.total)
        self.parallel: nn.Module = network
        if processes.count > 1:
            self.parallel = DistributedDataParallel(network, [self.device] if self.device.type == "cuda" else None)
        self.average: AveragedModel | None = None
        if recipe.ema:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        fused = self.device.type == "cuda" or None  # fp16 then waits for no step's gradients
        self.optimizer = build_torch_optimizer(trained, recipe, fused=fused)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.loss_function = single_network_loss(recipe.loss, recipe.temperature, recipe.margin, recipe.alpha)
        self.epoch = self.at = 0
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # of the steps' mean losses and errors
        self.means = self.sums
        self.best: dict[str, Tensor] = {}
        self.timer = LoaderTimer(self.device)
        self.began, self.since = time.perf_counter(), 0
        self.steps_per_second = 0.0

    def step(self, number: int) -> bool:
        """The step of that number, from 1 on. Raises TrainingError if the training diverged."""
        if self.at == self.per_epoch:
            self.epoch, self.at = self.epoch + 1, 0
            self.began, self.since = time.perf_counter(), 0
        torch.manual_seed(seed_of(self.seed, self.epoch, self.at, 1))  # of what the network draws itself
        self.parallel.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * self.schedule.rate((number - 1) / self.total)
        with self.timer.step(self.at) as batch_made:
            x, *targets = self.batches.at(self.epoch, self.at)
            batch_made()
            outputs = self._outputs(self.parallel, x)
            loss = self.loss_function(outputs, *targets)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            if self.average:
                self.average.update_parameters(self.network)
            self.sums += torch.stack([loss.detach().double(), _error(outputs.detach(), targets[0])])
        self.at += 1
        self.since += 1
        if (self.at % _CHECK_INTERVAL == 0 or self.at == self.per_epoch) and not self._joint_sums().isfinite().all():
            raise TrainingError(f"the training diverged in epoch {self.epoch + 1}: a smaller learning rate may help")
        return True

    def _outputs(self, network: nn.Module, x: Tensor) -> Tensor:
        dtype = PRECISIONS[self.recipe.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            outputs = network(x)
        return outputs if outputs.dtype == torch.float64 else outputs.float()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """What the network, or the average of its weights, makes of x.  (n, ...) -> (1, n, out)."""
        network = self.average or self.network
        network.eval()
        return self._outputs(network, x)[None]

    def loss(self) -> Tensor:
        """The mean of the epoch so far.  (1,)."""
        return self.means[:1] if self.at == self.per_epoch else self.sums[:1] / self.at

    def end_epoch(self) -> tuple[Tensor, float | None]:
        """The mean loss over the epoch, (1,), and the share of rows misclassified, if targets are classes."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.steps_per_second = self.since / max(time.perf_counter() - self.began, 1e-9)
        self.means = self._joint_sums() / self.per_epoch
        self.sums.zero_()
        error = float(self.means[1])
        return self.means[:1], None if error < 0 else error

    def snapshot_best(self, better: Tensor) -> None:
        """Remembers the present weights, if the mask (1,) says so."""
        if better.item():
            source = self.average.module if self.average else self.network
            self.best = {name: tensor.clone() for name, tensor in source.state_dict().items()}

    def finish(self) -> None:
        """Leaves the network as it is to be used."""
        if self.best or self.average:
            self.network.load_state_dict(self.best or self.average.module.state_dict())  # type: ignore[union-attr]
        self.network.eval()

    def _joint_sums(self) -> Tensor:
        """The sums of all processes, their mean; all must ask."""
        return self.processes.sum(self.sums) / self.processes.count

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of the state, for a checkpoint; all processes must ask."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self.network.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "average": self.average.state_dict() if self.average else {},
            "batches": self.batches.state_dict(),
            "best": self.best,
        }
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        return tensors | {"sums": self._joint_sums()}, {"scaler": self.scaler.state_dict()}

    def load_state_dict(self, tensors: dict[str, Tensor], entries: Mapping[str, Any], step: int) -> None:
        """What `state_dict` gave after so many steps."""
        self.network.load_state_dict(part_of("model.", tensors))
        restore_optimizer(self.optimizer, part_of("optimizer.", tensors))
        if self.average:
            self.average.load_state_dict(part_of("average.", tensors))
        self.scaler.load_state_dict(entries["scaler"])
        self.batches.load_state_dict(part_of("batches.", tensors), step)
        self.best = part_of("best.", tensors)
        shared = self.processes.count if self.processes.first else 0  # so that the mean over processes is as it was
        self.sums.copy_(tensors["sums"] * shared)
        self.epoch, self.at = divmod(step, self.per_epoch)


def _error(outputs: Tensor, y: Tensor) -> Tensor:
    """The share of rows misclassified; -1 where targets are no classes."""
    if y.dim() == 1:
        return (outputs.argmax(1) != y).double().mean()
    return torch.tensor(-1.0, dtype=torch.float64, device=y.device)
