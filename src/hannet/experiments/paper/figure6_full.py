"""Figure 6 on all 261 pairs of width and depth, as in the paper: an estimated 20 hours on one core, so share it out.

`hannet reproduce figure6-full --shard 3/16` is one of 16 tasks of a job array on a shared file system, and `--cluster ADDRESS` gives the
work to a Dask cluster.
"""

from collections.abc import Sequence
from typing import ClassVar

from . import figure6


class Experiment(figure6.Experiment):
    """figure6 with every width and depth."""

    stem: ClassVar[str] = "figure6-full"
    widths: ClassVar[Sequence[int]] = range(20, 101, 10)
    depths: ClassVar[Sequence[int]] = range(2, 31)
