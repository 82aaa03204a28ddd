"""A short run of `tests.benchmarks.fuzz`."""

from tests.benchmarks import fuzz


def test_damaged_files_end_in_the_one_error_that_callers_expect() -> None:
    files = fuzz.seeds()
    for file in files:
        fuzz.load(file)
    idle = fuzz.peak_megabytes()
    for seed, (work, cases) in enumerate(((fuzz.parse, 3000), (fuzz.decode, 60), (fuzz.load, 60))):
        ends, longest = fuzz.run(work, files, cases, seed)
        assert ends.total() == cases and len(ends) > 1
        assert longest < 10
    assert fuzz.peak_megabytes() - idle < 200
