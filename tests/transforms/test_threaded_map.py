import threading
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.testing.util import assert_that, equal_to

from pipeline.runners.local import local_runner
from transforms.threaded_map import ThreadedMap


def odd_and_even(number: int) -> Any:
    return TaggedOutput("odd", number) if number % 2 else number


def check(stop_path: str | None, even: list[int], odd: list[int], prefetch: int | None = 3) -> None:
    """Through Beam: the ends of bundles count too."""
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        numbers = pipeline | beam.Create(range(10))
        split = numbers | beam.ParDo(ThreadedMap(odd_and_even, prefetch, stop_path)).with_outputs(
            "odd", main="even"
        )
        assert_that(split["even"], equal_to(even), label="even")
        assert_that(split["odd"], equal_to(odd), label="odd")


@pytest.mark.parametrize("prefetch", [3, 0, None])
def test_every_element_comes_out_once_under_its_tag(prefetch: int | None) -> None:
    check(None, [0, 2, 4, 6, 8], [1, 3, 5, 7, 9], prefetch)


def test_asked_to_stop_elements_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    check(str(tmp_path / "stop"), [], [])


def test_the_next_ones_are_begun_while_results_are_used() -> None:
    begun = [threading.Event() for _ in range(4)]
    prefetching = ThreadedMap(lambda number: begun[number].set(), 2)
    prefetching.setup()
    prefetching.start_bundle()
    for number in range(3):
        list(prefetching.process(number))
    # The first one is out and would be encoded now; the two after it are under way by themselves.
    assert begun[1].wait(5) and begun[2].wait(5) and not begun[3].is_set()
    prefetching.teardown()


def test_one_at_a_time_none_is_begun_before_the_last_one_is_out() -> None:
    begun: list[int] = []
    one_by_one = ThreadedMap(begun.append, 0)
    one_by_one.setup()
    one_by_one.start_bundle()
    for number in range(3):
        list(one_by_one.process(number))
        assert begun == list(range(number + 1))
    one_by_one.teardown()
