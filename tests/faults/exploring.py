"""How many bad inputs a test tries, and that they are the same each time."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Gives a test its number of `examples`: few by default, many with the slow ones."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def explore(examples: int, check: Callable[[Random], None]) -> None:
    """Runs a check with so many sources of randomness, the same each time."""

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        # Simpler cases are looked for by hand: each try costs what a call may take.
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(random=st.randoms(use_true_random=False))
    def checked(random: Random) -> None:
        check(random)

    checked()
