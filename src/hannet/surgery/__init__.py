"""Han-layers in models that people have: replaced in place, with a table before and a way back.

>>> from torch import nn
>>> from hannet import surgery
>>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
>>> changes = surgery.replace_linear(model, by=4, dry_run=True)  # print(changes) shows a table
>>> changes.apply().undo()
"""

from .adapt import Adaptation, HanAdapter, adapt
from .distill import StopEarly, distill
from .find import SurgeryError
from .replace import Surgery, han, replace_feedforward, replace_linear
from .report import report
from .sensitivity import sensitivity

__all__ = [
    "Adaptation", "HanAdapter", "StopEarly", "Surgery", "SurgeryError",
    "adapt", "distill", "han", "replace_feedforward", "replace_linear", "report", "sensitivity",
]  # fmt: skip
