"""What manifests add up to: made up row by row where the rows matter, of real runs where the sums do."""

import json
import random
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.audit.manifests import ManifestError, WhereError, open_manifests, query
from pipeline.audit.report import audit, print_audit, print_failed
from tests.manifests import FIRST, SECOND, kept, row, write, write_run
from tests.runs import rgc
from tests.storage import Storage, upload_folder
from transforms.manifest.reading import manifest_files, read_table
from transforms.manifest.runs import RunRecord, WrittenFile, begin_run, finish_run
from transforms.manifest.schema import SCHEMA, VERSION


def printed(output: Path) -> str:
    console = Console(width=300, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        print_audit(audit(str(output)), console)
    return capture.get()


def test_totals_agree_with_pyarrow_and_with_the_disk(compressed: Path) -> None:
    last = max(path.parent for path in map(Path, manifest_files(str(compressed))))
    table = pa.concat_tables(read_table(file) for file in manifest_files(str(last)))
    report = audit(str(compressed))
    totals = report.totals
    assert totals["photos"] == len(table) == 4
    for column in ("source_bytes", "saved_bytes"):
        assert totals[column] == pc.sum(table[column]).as_py()
    on_disk = sum(path.stat().st_size for path in (compressed / "codes").rglob("*.rgc"))
    photos = [path for path in (compressed.parent / "photos").rglob("*") if path.is_file()]
    encoded = set(table.filter(pc.field("status") == "encoded")["source_uri"].to_pylist())
    left = sum(path.stat().st_size for path in photos if str(path) not in encoded)
    assert totals["bytes_after"] == on_disk + left
    assert totals["source_bytes"] == sum(path.stat().st_size for path in photos)
    assert totals["mean_ms_ssim"] == pytest.approx(pc.mean(table["ms_ssim"]).as_py())
    for groups in (report.by_folder, report.by_format, report.by_megapixels):
        for figure in ("photos", "encoded", "kept", "failed", "source_bytes", "bytes_after", "saved_bytes"):
            assert sum(group[figure] for group in groups) == totals[figure]
    reasons = {(row["status"], row["reason"]): row["photos"] for row in report.by_reason}
    assert reasons[("kept", "not a photo rgc reads (.txt)")] == 1
    assert sum(reasons.values()) == totals["kept"] + totals["failed"] == 2


def test_the_latest_row_of_each_photo_counts(tmp_path: Path) -> None:
    """An interrupted run, the one that finished it, and a copy of a manifest."""
    later = datetime(2026, 11, 3, tzinfo=UTC)
    write_run(tmp_path, SECOND, [kept("/p/a.jpg", "hard", SECOND), row("/p/b.jpg", SECOND, ms_ssim=0.97)])
    write_run(tmp_path, FIRST, [row("/p/a.jpg"), row("/p/b.jpg", ms_ssim=0.99), row("/p/c.jpg")])
    copy = write_run(tmp_path / "copy", FIRST, [row("/p/a.jpg"), row("/p/b.jpg"), row("/p/c.jpg")])
    for manifests in ([tmp_path], [tmp_path / "copy", tmp_path], [tmp_path / "manifest", tmp_path]):
        report = audit(*map(str, manifests))
        assert (report.totals["photos"], report.totals["kept"]) == (3, 1)
        assert report.ms_ssim["worst"] == 0.96 and report.totals["mean_ms_ssim"] == pytest.approx(0.965)
    assert audit(str(tmp_path / "manifest" / f"run={FIRST}")).totals["encoded"] == 3
    rows = [row("/p/a.jpg"), {**row("/p/a.jpg", ms_ssim=0.91), "finished_at": later}, row("/p/b.jpg")]
    for order in (rows, rows[::-1]):  # of two rows of one run, the one finished last
        other = write(tmp_path / "other" / "rows.parquet", order)
        assert audit(str(other), str(copy)).ms_ssim["worst"] == 0.91


def test_one_run_is_read_like_several(tmp_path: Path) -> None:
    """A run alone takes a shorter way."""
    rows = [row(f"/p/{i % 3}/{i}.jpg", ms_ssim=0.9 + i / 1000, saved_bytes=i) for i in range(50)]
    write_run(tmp_path / "one", SECOND, [{**each, "run_id": SECOND} for each in rows])
    write_run(tmp_path / "two", FIRST, [row(f"/p/{i % 3}/{i}.jpg", ms_ssim=0.5) for i in range(20)])
    one = audit(str(tmp_path / "one"))
    assert asdict(one) == asdict(audit(str(tmp_path / "one"), str(tmp_path / "two")))
    assert one.totals["photos"] == 50


def test_the_latest_rows_of_many_runs(tmp_path: Path) -> None:
    """Runs over parts of an archive, in files whose rows all count, of which some do, and none."""
    generator = random.Random(0)
    latest: dict[str, float] = {}
    for number in range(12):
        run = f"202611{number + 1:02}T220000.000000Z-aaaaaa"
        part = generator.sample(range(40), generator.choice([3, 10, 30, 40]))
        rows = [row(f"/p/{i}.jpg", run, ms_ssim=generator.random()) for i in part]
        latest |= {each["source_uri"]: each["ms_ssim"] for each in rows}
        for file in range(3):
            write(tmp_path / f"run={run}" / f"rows-{file}.parquet", rows[file::3])
    for _ in range(3):
        runs = sorted(map(str, tmp_path.iterdir()), key=lambda _: generator.random())
        with open_manifests(runs) as database:
            assert dict(database.execute("SELECT source_uri, ms_ssim FROM latest").fetchall()) == latest
            assert query(database, "SELECT count(*) AS rows FROM latest") == [{"rows": len(latest)}]
        worst = sorted(latest, key=lambda uri: latest[uri])[:5]
        assert [each["source_uri"] for each in audit(*runs).worst_quality] == worst


def test_early_manifests_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    early = SCHEMA.remove(SCHEMA.get_field_index("source_fingerprint"))
    old = write(tmp_path / "old" / "rows.parquet", [row("/p/a.jpg"), row("/p/c.jpg")], early)
    with open_manifests([str(old)]) as database:
        assert query(database, "SELECT DISTINCT source_fingerprint AS f FROM latest") == [{"f": None}]
    new = write(tmp_path / "new" / "rows.parquet", [row("/p/b.jpg", SECOND)], version=VERSION)
    with open_manifests([str(tmp_path / "old"), str(new)]) as database:
        found = query(database, "SELECT source_uri, source_fingerprint AS f FROM latest ORDER BY ALL")
    assert [each["f"] for each in found] == [None, "1-2", None]
    newer = write(tmp_path / "new" / "newer.parquet", [row("/p/b.jpg")], version=VERSION + 1)
    with pytest.raises(ManifestError, match=rf"{re.escape(str(newer))}: a manifest of version {VERSION + 1}"):
        audit(str(tmp_path / "old"), str(tmp_path / "new"))


def test_what_is_written_says_its_version(compressed: Path) -> None:
    for file in manifest_files(str(compressed)):
        assert pq.read_metadata(file).metadata[b"rgc_manifest"] == str(VERSION).encode()


def test_truncated_and_foreign_files_are_named_and_skipped(tmp_path: Path) -> None:
    good = write_run(tmp_path, FIRST, [row("/p/a.jpg"), row("/p/b.jpg")])
    truncated, foreign, text = (good.with_name(f"{name}.parquet") for name in ("cut", "foreign", "text"))
    truncated.write_bytes(good.read_bytes()[:-100])
    pq.write_table(pa.table({"a": [1]}), foreign)
    text.write_text("no Parquet at all")
    wrong_type = SCHEMA.set(SCHEMA.get_field_index("width"), pa.field("width", pa.string()))
    typed = write(good.with_name("typed.parquet"), [{**row("/p/z.jpg"), "width": "wide"}], wrong_type)
    result = rgc("audit", tmp_path)
    assert result.exit_code == 1
    assert "2 files: 2 encoded" in result.output
    assert "MS-SSIM says how alike" in result.output and "less than p5" in result.output
    reasons = {truncated: "magic bytes", foreign: "encode_seconds", text: "", typed: "width is string"}
    for file, reason in reasons.items():
        assert re.search(f"skipped: {re.escape(str(file))}: .*{reason}", result.output)
    assert {each["uri"] for each in audit(str(tmp_path)).skipped} == set(map(str, reasons))
    good.unlink()
    with pytest.raises(ManifestError, match=r"cut\.parquet: no manifest of rgc"):
        audit(str(tmp_path))
    with pytest.raises(ManifestError, match="nowhere: no Parquet file there"):
        audit(str(tmp_path / "nowhere"))


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    good = write_run(tmp_path, FIRST, [row(f"/p/{i}.jpg") for i in range(1000)])
    bad = good.with_name("bad.parquet")
    data = bytearray(good.read_bytes())
    data[4:1000] = bytes(996)  # pages, not the footer
    bad.write_bytes(data)
    with pytest.raises(ManifestError, match=r"bad\.parquet: damaged"):
        audit(str(tmp_path))


def test_where_is_asked_of_the_latest_rows(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg", ms_ssim=0.91), row("/q/b.jpg", width=100, height=100)])
    write_run(tmp_path, SECOND, [row("/p/a.jpg", SECOND, ms_ssim=0.99)])
    assert audit(str(tmp_path), where="ms_ssim < 0.95").totals["photos"] == 0
    assert audit(str(tmp_path), where="folder = '/q' AND megapixels < 1").totals["photos"] == 1
    assert audit(str(tmp_path), where="target_ms_ssim = 0.95 -- all").totals["photos"] == 2
    write_run(tmp_path / "odd", FIRST, [{**row("/p/a.jpg"), "settings": '{"target_ms_ssim":"high"}'}])
    assert audit(str(tmp_path / "odd"), where="target_ms_ssim IS NULL").totals["photos"] == 1
    result = rgc("audit", tmp_path, "--where", "status = 'failed'")
    assert result.exit_code == 0 and "0 files" in result.output


@pytest.mark.parametrize(
    "condition, message",
    [
        ("statsu = 'failed'", 'Referenced column "statsu" not found'),
        ("status = ", "syntax error"),
        ("count(*) > 1", "aggregates"),
        ("status = 5", "Could not convert"),
        ("source_uri", "Could not convert"),
        ("regexp_matches(source_uri, '(')", "missing"),
    ],
)
def test_a_broken_condition_is_a_wrong_call(tmp_path: Path, condition: str, message: str) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg")])
    with pytest.raises(WhereError, match=re.escape(f"{condition}: ")):
        audit(str(tmp_path), where=condition)
    result = rgc("audit", tmp_path, "--where", condition)
    assert result.exit_code == 2 and "--where" in result.output
    assert message.rpartition(" ")[2] in result.output


def test_a_condition_that_fails_on_the_data_is_blamed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without reading all files for damage first, which takes minutes of many."""
    write_run(tmp_path, FIRST, [row("/p/a.jpg")])
    monkeypatch.delattr("pipeline.audit.manifests.pq.ParquetFile")
    with pytest.raises(WhereError, match="Could not convert"):
        audit(str(tmp_path), where="source_uri::INTEGER = 5")


def test_rows_without_what_every_row_has_are_no_manifest(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg")])
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    for name in ("source_uri", "finished_at", "run_id"):
        rows = [{**row(f"/p/{i}.jpg", SECOND), name: None} for i in range(2)]
        write(tmp_path / "manifest" / "run=2" / f"{name}.parquet", [*rows, row("/p/b.jpg")], loose)
    report = audit(str(tmp_path))
    assert report.totals["photos"] == 1
    assert [each["reason"].partition(",")[0] for each in report.skipped] == [
        "2 rows without finished_at", "2 rows without run_id", "2 rows without source_uri",
    ]  # fmt: skip
    write(tmp_path / "whole" / "rows.parquet", [row("/p/a.jpg", SECOND), row("/p/b.jpg")], loose)
    assert audit(str(tmp_path / "whole"), str(tmp_path)).totals["photos"] == 2


def test_an_encoded_row_without_figures_can_be_shown(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg", ms_ssim=None, bits_per_pixel=None)])
    assert "1 files: 1 encoded" in printed(tmp_path)


def test_reasons_that_differ_in_numbers_and_names_are_one(tmp_path: Path) -> None:
    reach = "MS-SSIM 0.95 is out of reach: 0.9{:03} after 8 iterations"
    rows = [kept(f"/p/{i}.jpg", reach.format(i)) for i in range(300)]
    for i in range(3):
        uri = f"/p/0x{i}.mp4"
        rows.append(kept(uri, "a video (.mp4)"))
        rows.append(kept(f"{uri}.png", f"claims 9{i}x4000 pixels in {i} bytes", status="failed"))
        rows.append(kept(f"{uri}.tif", f"[Errno 13] Permission denied: '{uri}.tif'", status="failed"))
    write_run(tmp_path, FIRST, rows)
    report = audit(str(tmp_path))
    assert [(each["status"], each["reason"], each["photos"]) for each in report.by_reason] == [
        ("kept", "MS-SSIM N is out of reach: N after N iterations", 300),
        ("failed", "[Errno N] Permission denied: ...", 3),
        ("failed", "claims N pixels in N bytes", 3),
        ("kept", "a video (.mp4)", 3),
    ]
    assert report.by_reason[0]["source_bytes"] == 300_000_000


def test_what_is_named_is_bounded_and_the_rest_counted(tmp_path: Path) -> None:
    rows = [kept(f"/p/{i:04}/a.jpg", f"broken x{i}", status="failed") for i in range(1500)]
    rows += [kept(f"/p/0000/{i}.mp4", "a video (.mp4)") for i in range(2)]
    write_run(tmp_path, FIRST, rows)
    report = audit(str(tmp_path))
    assert len(report.failed) == 100 and report.totals["failed"] == 1500
    assert len(report.by_folder) == 1000 and report.folders == 1500
    assert len(report.by_reason) == 100 and report.reasons == 1501
    assert report.by_reason[0]["reason"] == "a video (.mp4)"  # failed ones do not push it out
    assert "and 1481 more reasons" in printed(tmp_path)
    assert len(json.dumps(asdict(report))) < 1_000_000
    console = Console(width=200)
    with console.capture() as capture:
        print_failed(report, console)
    lines = capture.get().splitlines()
    assert len(lines) == 101 and "1400 more" in lines[-1]
    assert "failed: 1480 more" in printed(tmp_path)


def test_figures(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    qualities, rates = drawn.uniform(0.9, 1, 500), drawn.uniform(0.1, 2, 500)
    sides = [(900, 1000), (1000, 1000), (4000, 3000), (8000, 6000), (None, None)]
    rows = [
        row(f"/p/{i}.jpg", ms_ssim=q, bits_per_pixel=r, width=sides[i % 5][0], height=sides[i % 5][1])
        for i, (q, r) in enumerate(zip(qualities, rates, strict=True))
    ]
    write_run(tmp_path, FIRST, rows)
    report = audit(str(tmp_path))
    for figures, values, worst in (
        (report.ms_ssim, qualities, qualities.min()),
        (report.bits_per_pixel, rates, rates.max()),
    ):
        assert list(figures) == ["p1", "p5", "p50", "p95", "p99", "worst"]
        assert list(figures.values()) == pytest.approx([*np.percentile(values, [1, 5, 50, 95, 99]), worst])
    classes = {group["megapixels"]: group["photos"] for group in report.by_megapixels}
    names = ["under 1", "1 to 4", "12 to 24", "from 48", "unknown"]
    assert list(classes.items()) == [(name, 100) for name in names]
    assert report.by_target == [
        {
            "target_ms_ssim": 0.95,
            "encoded": 500,
            "below_target": int((qualities < 0.95 - 1 / 65535).sum()),
            "worst_ms_ssim": qualities.min(),
        }
    ]
    assert report.saved_usd_per_month == pytest.approx(500 * 900_000 / 2**30 * 0.02)
    json.dumps(asdict(report))
    priced = rgc("audit", tmp_path, "--storage-price", "0.1")
    assert "worth 0.04 USD a month, at 0.100 USD per GiB and month" in priced.output


def test_a_quality_rounded_to_just_below_its_target_has_reached_it(tmp_path: Path) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg", ms_ssim=round(0.95 * 65535 - 0.5) / 65535)])
    assert audit(str(tmp_path)).by_target[0]["below_target"] == 0


def test_any_name_will_do(tmp_path: Path) -> None:
    odd = tmp_path / "it's [red] *? {a}"
    write_run(odd, FIRST, [row("/p [bold]/it's.jpg"), row("a.jpg"), row("gs://bucket/b.jpg")])
    report = audit(str(odd))
    assert [group["folder"] for group in report.by_folder] == ["", "/p [bold]", "gs://bucket"]
    assert "/p [bold]/it's.jpg" in printed(odd)


def test_objects(storage: Storage, tmp_path: Path) -> None:
    write_run(tmp_path / "out", FIRST, [row("gs://b/a.jpg"), row("gs://b/b.jpg")])
    write_run(tmp_path / "out", SECOND, [row("gs://b/a.jpg", SECOND, ms_ssim=0.5)])
    (tmp_path / "out" / "manifest" / f"run={SECOND}" / "cut.parquet").write_bytes(b"PAR1")
    upload_folder(tmp_path / "out", "gs://archive/out")
    report = audit("gs://archive/out")
    assert report.totals == audit(str(tmp_path / "out")).totals
    assert [each["uri"] for each in report.skipped] == [f"gs://archive/out/manifest/run={SECOND}/cut.parquet"]
    with pytest.raises(ManifestError, match="gs://archive/none"):
        audit("gs://archive/none")
    with pytest.raises(ManifestError, match="s3://"):
        audit("s3://archive")


@pytest.mark.parametrize(
    "condition",
    [
        "1=1) UNION SELECT * FROM latest WHERE (1=1",
        "1=1) ORDER BY (1",
        "1=1) GROUP BY ALL HAVING (1=1",
        "source_bytes IN (SELECT 5)",
        "EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))",
        "TRUE); DROP VIEW latest; SELECT (1",
    ],
)
def test_where_is_one_condition_and_nothing_else(tmp_path: Path, condition: str) -> None:
    write_run(tmp_path, FIRST, [row("/p/a.jpg")])
    with pytest.raises(WhereError):
        audit(str(tmp_path), where=condition)
    assert audit(str(tmp_path), where="(source_bytes > 0) AND (status = 'encoded')").totals["photos"] == 1


def test_a_run_that_was_stopped_is_said_to_be_incomplete(tmp_path: Path) -> None:
    path = write_run(tmp_path, FIRST, [row("/p/a.jpg")])
    folder = path.parent
    begin_run(str(folder), RunRecord(FIRST, "/p", "rgc-1", "{}"))
    assert audit(str(tmp_path)).incomplete == [
        {"run_id": FIRST, "source": "/p", "found": None, "finished": None}
    ]
    finish_run([WrittenFile(str(path), 1)], 3, str(folder))
    assert f"run {FIRST} of /p is not complete: 1 of 3 files" in rgc("audit", tmp_path).output
    rgc("audit", tmp_path, "--html", tmp_path / "page.html")
    assert "1 of 3 files are in its manifest" in (tmp_path / "page.html").read_text()
    finish_run([WrittenFile(str(path), 3)], 3, str(folder))
    assert not audit(str(tmp_path)).incomplete
    begin_run(str(tmp_path / "killed" / "manifest" / "run=9"), RunRecord("9", "/p", "rgc-1", "{}"))
    with pytest.raises(ManifestError, match="no rows: run 9 was stopped"):
        audit(str(tmp_path / "killed"))
