"""Rounding: never up, never by more than its step, and the same for neighbours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.quantise import five_percent, quarter_power, sixty_fourth


@given(st.integers(1, 1 << 50))
def test_a_rate_is_rounded_down_by_less_than_five_percent(value: int) -> None:
    rounded = five_percent(value)
    assert value * 20 <= rounded * 21 + 20
    assert rounded <= value
    assert five_percent(rounded) == rounded


@given(st.integers(1, 1 << 36))
def test_a_round_trip_is_rounded_down_to_a_quarter_power_of_two(value: int) -> None:
    rounded = quarter_power(value)
    assert rounded <= value <= rounded * 1.1893 + 1
    assert quarter_power(rounded) == rounded


@pytest.mark.parametrize(("value", "whole", "rounded"), [(0, 64, 0), (63, 6400, 0), (199, 6400, 100), (5, 0, 5)])
def test_memory_is_rounded_down_to_a_sixty_fourth_of_the_whole(value: int, whole: int, rounded: int) -> None:
    assert sixty_fourth(value, whole) == rounded
