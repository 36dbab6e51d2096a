"""Paired tests of two methods on the same splits, and on the same cells of a table."""

import math
from collections.abc import Sequence
from statistics import fmean

from ..record import Record

PER_CELL = "paired t-test over splits, two-sided; splits share rows, so it is smaller than it ought to be"


def paired_t(first: Sequence[float], second: Sequence[float]) -> float | None:
    """p of Student's paired t-test, two-sided; None for fewer than two pairs, and for equal ones."""
    from scipy.stats import ttest_rel

    if len(first) < 2:
        return None
    p = float(ttest_rel(first, second).pvalue)
    return _rounded(p) if math.isfinite(p) else None


def permutation_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p of a paired permutation test of the means: exact for up to 16 pairs, else from 100,000 draws; None for one pair."""
    from scipy.stats import permutation_test

    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(differences) < 2:
        return None
    draws = math.inf if len(differences) <= 16 else 99_999
    found = permutation_test(
        (differences,), fmean, permutation_type="samples", vectorized=False, n_resamples=draws, rng=0
    )
    return _rounded(float(found.pvalue))


def compare(mine: Sequence[Record], others: Sequence[Record]) -> tuple[float | None, float | None]:
    """Ratio of mean RMSE over the seeds that both have, and p."""
    theirs = {record.seed: record.metrics["test_rmse"] for record in others}
    found = [(record.metrics["test_rmse"], theirs[record.seed]) for record in mine]
    pairs = [(first, second) for first, second in found if first is not None and second is not None]
    if len(pairs) < len(mine):
        return None, None
    first, second = zip(*pairs, strict=True)
    return fmean(first) / fmean(second), paired_t(first, second)


def over_cells(ratios: Sequence[float]) -> tuple[float, int, float | None]:
    """Of the cells' ratios of errors: geometric mean, how many are above 1, p of Wilcoxon's signed-rank test on their logs.

    The test is exact and two-sided; two shares of training rows of one set count as two cells. None where all ratios are 1.
    """
    from scipy.stats import wilcoxon

    logs = [math.log(ratio) for ratio in ratios]
    differing = [log for log in logs if log]
    p = _rounded(float(wilcoxon(differing, method="exact").pvalue)) if differing else None
    return _rounded(math.exp(fmean(logs))), sum(log > 0 for log in logs), p


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")  # the further digits depend on the version of SciPy and on the processor
