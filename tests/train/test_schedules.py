import math

import pytest

from hannet.train.recipe import Recipe


def schedule_of(recipe):
    return recipe.learning_rates(recipe.iterations)


def test_schedule_of_steps():
    schedule = schedule_of(Recipe(iterations=100, milestones=(0.5, 0.7), factor=0.2))
    assert [schedule.rate(step / 100) for step in (0, 49, 50, 69, 70, 99)] == pytest.approx(
        [1, 1, 0.2, 0.2, 0.04, 0.04]
    )


def test_schedule_of_a_cosine_after_a_warmup():
    schedule = schedule_of(Recipe(iterations=100, schedule="cosine", warmup=0.2))
    rates = [schedule.rate(step / 100) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[99] < 0.001
    assert rates[40] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
