"""Two runs side by side."""

import json
import os
from pathlib import Path

import pytest

from pipeline.audit.compare import compare
from tests.manifests import FIRST, SECOND, SETTINGS, kept, row, write_run
from tests.runs import rgc


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    first = [row(f"/p/{i}.jpg", encode_seconds=2.0) for i in range(3)]
    first += [row("/p/gone.jpg"), row("/p/edited.jpg"), kept("/p/hard.jpg", "out of reach")]
    better = {"ms_ssim": 0.98, "encode_seconds": 1.0}
    second = [row(f"/p/{i}.jpg", SECOND, saved_bytes=900_000 - i, **better) for i in range(3)]
    second += [
        row("/p/edited.jpg", SECOND, source_bytes=5),
        row("/p/hard.jpg", SECOND),
        row("/p/new.jpg", SECOND),
    ]
    write_run(tmp_path, FIRST, first)
    write_run(tmp_path, SECOND, second)
    runs = [str(tmp_path / "manifest" / f"run={run}") for run in (FIRST, SECOND)]
    comparison = compare([str(tmp_path)], FIRST)
    assert comparison == compare([runs[1]], runs[0]) == compare([str(tmp_path)], f"run={FIRST}")
    assert comparison == compare([str(tmp_path)], runs[0])
    assert comparison == compare([str(tmp_path)], os.path.relpath(runs[0]))
    assert comparison.before_made_by == [{"model": "rgc-0123456789ab", "settings": SETTINGS, "rows": 6}]
    assert comparison.counts == {"photos": 4, "changed": 1, "only_before": 1, "only_after": 1}
    before, after = comparison.before, comparison.after
    assert (before["encoded"], before["kept"], after["encoded"]) == (3, 1, 4)
    assert (before["mean_ms_ssim"], after["mean_ms_ssim"]) == pytest.approx((0.96, 0.98))
    assert (before["megapixels_per_second"], after["megapixels_per_second"]) == pytest.approx((1.0, 2.0))
    assert after["bytes_after"] == 300_003 + 100_000
    assert comparison.moved == [{"before": "kept", "after": "encoded", "photos": 1}]
    assert [each["source_uri"] for each in comparison.bytes_changed] == [
        "/p/hard.jpg",
        "/p/2.jpg",
        "/p/1.jpg",
    ]
    changed = {"source_uri": "/p/2.jpg", "before_bytes": 100_000, "after_bytes": 100_002}
    assert comparison.bytes_changed[1] == changed
    assert len(comparison.quality_changed) == 3
    backwards = compare([runs[0]], runs[1])
    assert (backwards.before, backwards.after) == (after, before)
    assert compare([str(tmp_path)], FIRST, "source_uri < '/p/2'").counts["photos"] == 2
    result = rgc("audit", tmp_path, "--compare", FIRST)
    assert result.exit_code == 0 and "4 files in both runs" in result.output and "0.9800" in result.output
    assert f"before: 6 rows of model rgc-0123456789ab, {SETTINGS}" in result.output
    assert json.loads(rgc("audit", tmp_path, "--compare", FIRST, "--json").output)["counts"]["photos"] == 4
    unknown = rgc("audit", tmp_path, "--compare", "20270101")
    assert unknown.exit_code == 1 and "20270101: no manifest there" in unknown.output
    alone = rgc("audit", runs[0], "--compare", runs[0])
    assert alone.exit_code == 1 and "nothing to compare with" in alone.output
    together = rgc("audit", tmp_path, "--compare", FIRST, "--verify", "1")
    assert together.exit_code == 2 and "--compare" in together.output


def test_a_bad_file_of_both_sides_is_named_once(tmp_path: Path) -> None:
    """And whichever way the earlier run is given, it is not what it is compared with."""
    bad = write_run(tmp_path, FIRST, [row("/p/a.jpg")]).with_name("bad.parquet")
    bad.write_text("no Parquet")
    write_run(tmp_path, SECOND, [row("/p/a.jpg", SECOND)])
    for run in (FIRST, str(bad.parent)):
        comparison = compare([str(tmp_path)], run)
        assert [each["uri"] for each in comparison.skipped] == [str(bad)]
        assert comparison.counts["only_after"] == 0
