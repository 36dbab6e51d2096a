import pytest

from hannet.reporting.intervals import format_interval, wilson_interval


@pytest.mark.parametrize(("share", "count"), [(0.0, 5), (1.0, 5), (0.731, 100)])
def test_the_share_lies_within_its_interval(share, count):
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0.1


def test_an_interval_is_as_published():
    assert wilson_interval(0.8, 100) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert format_interval(wilson_interval(0.8, 100), ".1%") == "71.1%–86.7%"
