"""How a measure is distributed over the encoded photos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

_BINS = (15, 40)  # at least, of few photos, and at most
_FINEST = 1e-4  # of a bin: finer ones tell nothing, and rounding would merge their edges
_ROUNDING = 1e-9  # of a bin: a value on an edge belongs to the next bin
_QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]
# Values that lie beyond the quartiles by more than so many times their distance (Tukey 1977) are left out if
# they squeeze the others.
_FAR_OUT = 3


@dataclass(frozen=True)
class Distribution:
    """How one column is distributed over the encoded photos.

    Attributes:
        low, high: 5% of the photos lie below `low`, 5% above `high`.
        step: width of the bins.
        bins: where each begins, and its photos; bins without photos are left out.
        outside: photos before the first bin or after the last.
        targets: of the settings, to be marked.
    """

    least: float
    low: float
    median: float
    high: float
    most: float
    step: float
    bins: list[tuple[float, int]]
    outside: int
    targets: list[float]


def read_distribution(
    database: duckdb.DuckDBPyConnection, column: str, targets: Sequence[float]
) -> Distribution | None:
    """None where no photo has a value."""
    ((photos, least, most, quantiles),) = database.execute(
        f"SELECT count({column}), min({column}), max({column}), quantile_cont({column}, {_QUANTILES}) "
        f"FROM latest WHERE status = 'encoded'"
    ).fetchall()
    if not photos:
        return None
    low, first_quartile, median, third_quartile, high = quantiles
    reach = _FAR_OUT * (third_quartile - first_quartile)
    ((first, last),) = database.execute(
        f"SELECT min({column}), max({column}) FROM latest "
        f"WHERE status = 'encoded' AND {column} BETWEEN $from AND $to",
        {"from": first_quartile - reach, "to": third_quartile + reach},
    ).fetchall()
    if not reach or most - least <= 2 * (last - first):
        first, last = least, most
    wanted = min(max(2 * round(photos ** (1 / 3)), _BINS[0]), _BINS[1])  # Rice's rule
    step = nice_step((last - first) / wanted)
    bins = database.execute(
        f"SELECT floor({column} / $step + {_ROUNDING})::BIGINT AS bin, count(*) FROM latest "
        f"WHERE status = 'encoded' AND {column} BETWEEN $first AND $last GROUP BY bin ORDER BY bin",
        {"step": step, "first": first, "last": last},
    ).fetchall()
    outside = photos - sum(count for _, count in bins)
    edges = [(round(bin * step, 6), count) for bin, count in bins]
    return Distribution(least, low, median, high, most, step, edges, outside, list(targets))


def nice_step(step: float) -> float:
    """The next of 1, 2, 5 and 10 times a power of ten."""
    step = max(step, _FINEST)
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
