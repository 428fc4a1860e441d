"""The learning rate's course."""

import dataclasses

import pytest

from finetune.train.plan import Plan

PLAN = Plan(steps=6, learning_rate=1.0)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "rates"),
    [
        (2, 2, [0.5, 1, 1, 1, 1, 0.5]),
        (0, 0, [1, 1, 1, 1, 1, 1]),
        (4, 0, [0.25, 0.5, 0.75, 1, 1, 1]),
        (0, 4, [1, 1, 1, 0.75, 0.5, 0.25]),
        (6, 6, [1 / 6, 2 / 6, 3 / 6, 3 / 6, 2 / 6, 1 / 6]),  # they meet before the plateau
    ],
)
def test_the_rate_warms_up_stays_and_cools_down(warmup: int, cooldown: int, rates: list[float]) -> None:
    plan = dataclasses.replace(PLAN, warmup=warmup, cooldown=cooldown)
    assert [plan.rate(step) for step in range(6)] == pytest.approx(rates)


def test_the_rate_is_never_zero() -> None:
    plan = dataclasses.replace(PLAN, warmup=3, cooldown=3)
    assert min(plan.rate(step) for step in range(plan.steps)) > 0
