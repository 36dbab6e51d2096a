"""The smallest nets that learn the checkerboard: the paper finds 400 parameters sufficient (section 4, Figure 6 bottom).

Nets of about 400 parameters, with dense ends and without, at the ten learning rates of figure1 and under the same protocol.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from ...train.recipe import Recipe
from ..verdicts import Comparison
from . import figure1


class Experiment(figure1.Experiment):
    """figure1 with two tiny networks and without a recipe of our own."""

    title: ClassVar[str] = "Smallest: checkerboard with about 400 parameters"
    stem: ClassVar[str] = "smallest"
    networks: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "HanNet 20x8": {"kind": "HanNet", "width": 20, "depth": 8},
        "HanNet 10x10, dense ends": {"kind": "HanNet", "width": 10, "depth": 10, "dense_ends": True},
    }
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    paper: ClassVar[Mapping[str, float]] = {}
    comparisons: ClassVar[tuple[Comparison, ...]] = ()
    drawn: ClassVar[tuple[str, str]] = ("HanNet 20x8", "HanNet 10x10, dense ends")
