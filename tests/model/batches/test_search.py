import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from model.batches.search import LEVELS, Band, LevelSearch, logarithm


def run(band: Band, curve: Callable[[int], float]) -> tuple[int | None, int]:
    """The answer, and the number of trials."""
    search, trials = LevelSearch(band), 0
    while not search.done:
        search.add(search.next_level, curve(search.next_level))
        trials += 1
        assert trials < 20
    return search.answer, trials


def photo(first: float, last: float, bend: float) -> Callable[[int], float]:
    """MS-SSIM by level, of a photo for which -ln(1 - MS-SSIM) rises along a bent line."""
    return lambda level: 1 - math.exp(-(first + (last - first) * (level / (LEVELS - 1)) ** bend))


@pytest.mark.parametrize("bend", [0.6, 1.0, 1.5])
@pytest.mark.parametrize(("first", "last"), [(2.0, 4.0), (2.6, 4.8), (3.5, 6.5)])
@pytest.mark.parametrize("target", [0.9, 0.95, 0.98, 0.99])
def test_a_target_is_met_and_hardly_exceeded(target: float, first: float, last: float, bend: float) -> None:
    curve = photo(first, last, bend)
    answer, trials = run(Band.of_ms_ssim(target), lambda level: logarithm(curve(level)))
    if curve(LEVELS - 1) < target:
        assert answer is None
    else:
        assert answer is not None
        assert curve(answer) >= target
        assert answer == 0 or curve(answer) <= target + 0.001 or curve(answer - 1) < target
    assert trials <= 7


def test_few_trials_are_enough_for_an_ordinary_photo() -> None:
    curve = photo(2.3, 5.4, 1.1)
    trials = [run(Band.of_ms_ssim(t / 1000), lambda x: logarithm(curve(x)))[1] for t in range(930, 990, 4)]
    assert sum(trials) / len(trials) <= 3


def test_a_part_of_a_photo_says_where_to_look() -> None:
    part, whole = photo(2.0, 4.6, 0.8), photo(2.1, 4.7, 0.8)
    band = Band.of_ms_ssim(0.97)
    search = LevelSearch(band)
    while not search.done:
        search.add(search.next_level, logarithm(part(search.next_level)))
    answer, trials = run(replace(band, typical=search.curve), lambda level: logarithm(whole(level)))
    assert answer is not None and 0.97 <= whole(answer) <= 0.971
    assert trials == 2


@pytest.mark.parametrize("limit", [3_000, 8_000, 15_000])
def test_bytes_stay_within_two_percent_of_their_limit(limit: int) -> None:
    answer, _ = run(Band.of_bytes(limit, 1 << 20), lambda level: math.log(2_000 * 1.012**level))
    assert answer is not None
    assert 0.98 * limit <= 2_000 * 1.012**answer <= limit


def test_limits_out_of_reach() -> None:
    assert run(Band.of_bytes(1_000, 1 << 20), lambda level: math.log(2_000 + level))[0] is None
    assert run(Band.of_bytes(9_000, 1 << 20), lambda level: math.log(2_000 + level))[0] == LEVELS - 1
    assert run(Band.of_ms_ssim(0.9), lambda level: 5.0)[0] == 0


def test_a_curve_with_dents_still_ends_with_what_keeps_the_limit() -> None:
    def dented(level: int) -> float:
        return 2.6 + 0.008 * level + (0.02 if level % 2 else 0)

    answer, _ = run(Band.of_ms_ssim(0.98), dented)
    assert answer is not None and dented(answer) >= logarithm(0.98)
