"""Training against attacks: on FGSM samples (Goodfellow et al. 2015), by adversarial training or TRADES (Zhang et al. 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backprop import Named
from .ensemble import Ensemble
from .losses import Loss
from .recipe import Recipe

_START = 0.001  # standard deviation of the noise that TRADES starts from: at the input itself its gradient is 0


class AdversarialTraining:
    """What a recipe's defence makes of a step. The noise of a member depends on its seed alone."""

    def __init__(self, recipe: Recipe, seeds: Sequence[int]):
        self.trades, self.eps, self.beta = recipe.defence == "trades", recipe.eps, recipe.beta
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def gradients(self, members: Ensemble, loss: Loss, x: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, Named]:
        """Outputs and gradients of all members, as Ensemble.gradients gives them.  x: (members, batch, in)."""
        if self.trades:
            return self._trades(members, loss, x, targets)
        attacked = self._fgsm(x, members.input_gradient(x, lambda outputs: loss.slope(outputs, *targets)), x)
        return members.gradients(attacked, lambda outputs: loss.slope(outputs, *targets))

    def _fgsm(self, x: Tensor, gradient: Tensor, start: Tensor) -> Tensor:
        moved = start + self.eps * gradient.sign()
        return torch.clamp(moved, x - self.eps, x + self.eps).clamp_(0, 1)

    def _trades(self, members: Ensemble, loss: Loss, x: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, Named]:
        batch = x.shape[1]
        noise = torch.stack(
            [torch.randn(x.shape[1:], generator=self.generators[member], device="cpu") for member in members.living]
        )
        start = x + _START * noise.to(x.device)
        clean = members.outputs(x).softmax(2)
        attacked = self._fgsm(x, members.input_gradient(start, lambda outputs: outputs.softmax(2).sub_(clean)), start)

        def slope(both: Tensor) -> Tensor:
            outputs, attacked_outputs = both[:, :batch], both[:, batch:]
            p, log_ratio = outputs.softmax(2), outputs.log_softmax(2) - attacked_outputs.log_softmax(2)
            divergence = (p * log_ratio).sum(2, keepdim=True)
            strength = self.beta / batch * (targets[1][..., None] if len(targets) > 1 else 1.0)  # the rows' weights
            ours = loss.slope(outputs, *targets) + strength * p * (log_ratio - divergence)
            return torch.cat([ours, strength * (attacked_outputs.softmax(2) - p)], dim=1)

        both, gradients = members.gradients(torch.cat([x, attacked], dim=1), slope)
        return both[:, :batch], gradients
