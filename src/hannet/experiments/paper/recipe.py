"""One recipe for every seed on the checkerboard, chosen on folds of the training points alone: no rate is picked per seed.

The recipe (figure1.RECIPES): warm-up, cosine, a group lasso on the first layer's rows, and of four starts the one that
fits the training points best. About 10 minutes for ten seeds on two cores.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..verdicts import Comparison
from . import figure1


class Experiment(figure1.Experiment):
    """figure1 without the ten rates."""

    title: ClassVar[str] = "One recipe: checkerboard, 12 x 12 squares"
    stem: ClassVar[str] = "recipe"
    networks: ClassVar[Mapping[str, Mapping[str, Any]]] = {label: figure1.NETWORKS[label] for label in figure1.RECIPES}
    rates: ClassVar[tuple[float, ...]] = ()
    comparisons: ClassVar[tuple[Comparison, ...]] = ()
    drawn: ClassVar[tuple[str, str]] = ("HanNet", "HanNet, dense ends")
