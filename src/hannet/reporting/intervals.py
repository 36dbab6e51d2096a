"""Intervals of what is measured on a sample."""

from collections.abc import Sequence


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share among `count` (J. Am. Stat. Assoc. 22, 1927), wide for few even if all are right.

    >>> [round(end, 3) for end in wilson_interval(1.0, 10)]
    [0.722, 1.0]
    """
    from scipy.stats import binomtest

    low, high = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return max(0.0, min(float(low), share)), min(1.0, max(float(high), share))  # rounding aside they are so


def format_interval(ends: Sequence[float], form: str) -> str:
    """Both ends in a number format.

    >>> format_interval((0.9, 0.95), ".1%")
    '90.0%–95.0%'
    """
    return interval_form(form).format(ends)


def interval_form(form: str) -> str:
    """The number format of a table's column of intervals, whose ends have that format."""
    return f"{{0[0]:{form}}}–{{0[1]:{form}}}"
