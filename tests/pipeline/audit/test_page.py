"""The audit's page: what stands on it, and what it does in a browser."""

import base64
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from markupsafe import escape
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from typer.testing import CliRunner

from pipeline.audit.manifests import open_manifests
from pipeline.audit.page import thumbnails
from pipeline.audit.page.content import WORST, Content, WorstPhoto, read_content
from pipeline.audit.page.distributions import nice_step
from pipeline.audit.page.folders import folder_bars
from pipeline.audit.report import read_audit
from pipeline.cli.main import app
from pipeline.cli.samples import sample_folder
from tests.browser import CHROMIUM, DESKTOP, DRIVER, PHONE, browser
from transforms.manifest.rows import ManifestRow
from transforms.manifest.schema import SCHEMA

IN_BROWSER = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()),
    reason="needs apt-get install chromium chromium-driver",
)
HARMFUL = "</script><img src=x onerror=\"document.title='harmed'\">.jpg"  # of a photo, and of its folder: "<"
MAX_PAGE_BYTES = 5_000_000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and out/, recompressed: of seven files one is no photo, one is broken."""
    folder = tmp_path_factory.mktemp("archive")
    photo = Image.open(sample_folder() / "astronaut.png").convert("RGB").resize((160, 96))
    for number, name in enumerate(("a.jpg", "trip/b.png", "trip/day 2/c.jpg", "trip/day 2/d.jpg", HARMFUL)):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.rotate(50 * number).save(path, quality=95)
    whole = (folder / "photos/a.jpg").read_bytes()
    (folder / "photos/trip/broken.jpg").write_bytes(whole[:2000])
    (folder / "photos/notes.txt").write_text("not a photo")
    arguments = ["compress", str(folder / "photos"), str(folder / "out"), "--target-ms-ssim", "0.7"]
    CliRunner().invoke(app, arguments)
    return folder


@pytest.fixture(scope="module")
def page(archive: Path) -> Path:
    path = archive / "audit.html"
    audit_to(path, archive / "out")
    return path


def encoded_row(uri: str, **changes: Any) -> dict[str, Any]:
    row = ManifestRow(
        source_uri=uri,
        status="encoded",
        source_bytes=1000,
        source_fingerprint="1-1",
        model="rgc-0123456789ab",
        settings='{"target_ms_ssim":0.9}',
        run_id="20261124T000000.000000Z-000000",
        finished_at=datetime(2026, 11, 24, tzinfo=UTC),
        saved_bytes=800,
        rgc_uri=f"{uri}.rgc",
        source_format="JPEG",
        width=40,
        height=30,
        rgc_bytes=200,
        source_bits_per_pixel=6.7,
        bits_per_pixel=1.3,
        ms_ssim=0.95,
        iterations=2,
    )
    return {**asdict(row), **changes}


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "run=1" / "rows-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), path)
    return str(folder)


def content_of(folder: Path, rows: Sequence[dict[str, Any]]) -> Content:
    with open_manifests([write_manifest(folder, rows)]) as database:
        return read_content(database, read_audit(database))


def worst_of(output: Path) -> list[WorstPhoto]:
    with open_manifests([str(output)]) as database:
        return read_content(database, read_audit(database)).worst


def audit_to(page: Path, *arguments: str | Path) -> str:
    """By the command; gives what it prints."""
    result = CliRunner().invoke(app, ["audit", *map(str, arguments), "--html", str(page)])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_holds_everything_and_asks_for_nothing(page: Path) -> None:
    text = page.read_text()
    assert "7 files went from" in text and "and every encoded one reaches MS-SSIM 0.7." in text
    assert "5 encoded, 1 kept, 1 failed." in text
    assert "MS-SSIM says how alike a decoded photo and its original are" in text
    assert "truncated: it has no end marker, and pixels are missing" in text
    assert "default-src &#39;none&#39;; script-src &#39;sha256-" in text
    markup = text.partition('<script type="application/json"')[0]
    fetched = re.findall(r'<(?:img|link|script)[^>]* (?:src|href)="([^"]*)', markup)
    assert len(fetched) == 1 + 3 * 5 and all(uri.startswith("data:") for uri in fetched)
    assert "@import" not in markup and "url(" not in markup
    assert page.stat().st_size < MAX_PAGE_BYTES


def test_names_are_data(page: Path) -> None:
    assert HARMFUL not in page.read_text()
    assert "<img src=x" not in page.read_text()


@contextmanager
def moved_away(path: str) -> Iterator[Path]:
    """Gives the place where the file lies meanwhile."""
    away = Path(path).rename(f"{path}.away")
    try:
        yield away
    finally:
        away.rename(path)


def test_originals_may_be_gone_or_changed(archive: Path) -> None:
    deleted, changed, *_ = worst = worst_of(archive / "out")
    with moved_away(deleted.source_uri), moved_away(changed.source_uri):
        Path(changed.source_uri).write_bytes(b"other")
        first, second, third, *_ = thumbnails.compare_photos(worst, "cpu")
    assert first.notes == ["The original is no longer there."]
    assert second.notes == ["The original was changed after it was encoded."]
    assert first.decoded and second.decoded and not first.original and not second.residual
    assert third.original and third.decoded and third.residual and not third.notes


def test_a_missing_or_damaged_rgc_file_is_said(archive: Path) -> None:
    photo = worst_of(archive / "out")[0]
    with moved_away(photo.rgc_uri) as away:
        (missing,) = thumbnails.compare_photos([photo], "cpu")
        data = away.read_bytes()
        Path(photo.rgc_uri).write_bytes(data[:100] + b"?" + data[101:])
        (damaged,) = thumbnails.compare_photos([photo], "cpu")
    assert damaged.notes[0].startswith("Its .rgc file cannot be shown: the b'SRCE' chunk")
    assert missing.notes == ["Its .rgc file is not there."]
    assert missing.original and not missing.decoded


def test_odd_rows_cost_no_page(tmp_path: Path) -> None:
    rows = [encoded_row("s3://bucket/a.jpg"), encoded_row("/b.jpg", rgc_uri=None, ms_ssim=None, width=None)]
    (photo,) = content_of(tmp_path, rows).worst
    (comparison,) = thumbnails.compare_photos([photo], "cpu")
    assert [note.partition(":")[0] for note in comparison.notes] == [
        "The original cannot be read",
        "Its .rgc file cannot be shown",
    ]


def test_only_the_first_iterations_are_decoded(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = archive / "more.tif", archive / "more"
    Image.open(archive / "photos/trip/b.png").save(source)  # no smaller with two iterations, if it were a PNG
    CliRunner().invoke(app, ["compress", str(source), str(target), "--iterations", "2"])
    (photo,) = worst_of(target)
    monkeypatch.setattr(thumbnails, "_DECODED_PIXELS", 160 * 96)
    (comparison,) = thumbnails.compare_photos([photo], "cpu")
    assert comparison.iterations == 1 and comparison.decoded


def test_folders_open_into_subfolders(tmp_path: Path) -> None:
    names = [
        "x/2019/sea/1.jpg",
        "x/2019/sea/2.jpg",
        "x/2020/far/away/3.jpg",
        "x/2020/far/away/4.jpg",
        "x/5.jpg",
    ]
    manifest = write_manifest(tmp_path, [encoded_row(f"gs://bucket/{name}") for name in names])
    with open_manifests([manifest]) as database:
        bars = folder_bars(database)
        few = folder_bars(database, limit=4)
    assert bars[0].name == "gs://bucket/x" and bars[0].parent is None
    assert {(bar.name, bar.parent): (bar.photos, bar.before, bar.saved) for bar in bars[1:]} == {
        ("files in this folder itself", 0): (1, 1000, 800),
        ("2019/sea", 0): (2, 2000, 1600),
        ("2020/far/away", 0): (2, 2000, 1600),
    }
    # Room for "", "/gs:", "/gs:/" and "/gs://bucket" only, which are one.
    assert [(bar.name, bar.photos) for bar in few] == [("gs://bucket", 5)]


def test_folders_without_room_are_told_together(tmp_path: Path) -> None:
    rows = [
        encoded_row(f"{folder}/{number}.jpg") for folder in "abc" for number in range(1 + ord(folder) % 3)
    ]
    with open_manifests([write_manifest(tmp_path, rows)]) as database:
        first, *others = folder_bars(database, limit=3)
    assert (first.name, first.photos) == ("everything", 6)
    assert [(bar.name, bar.photos, bar.is_rest) for bar in others] == [
        ("smaller folders", 1, True),
        ("b", 3, False),
        ("a", 2, False),
    ]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, "and every encoded one reaches MS-SSIM 0.9."),
        ({"ms_ssim": 0.9 - 1 / 65536}, "and every encoded one reaches MS-SSIM 0.9."),  # as files round it
        ({"ms_ssim": 0.89}, "but of 2 encoded ones 1 did not reach the target."),
        ({"settings": '{"target_ms_ssim":0.94}'}, "and every encoded one reaches its target."),
        ({"settings": '{"iterations":3}'}, "at a median MS-SSIM of 0.9500."),
    ],
)
def test_the_answer_is_one_sentence(tmp_path: Path, changes: dict[str, Any], answer: str) -> None:
    content = content_of(tmp_path, [encoded_row("a/1.jpg"), encoded_row("a/2.jpg", **changes)])
    expected = f"80.0% saved: 2 files went from 2.0 kB to 400 bytes, {answer}"
    assert content.answer.replace("\u00a0", " ") == expected


def test_nothing_encoded_and_nothing_at_all(tmp_path: Path) -> None:
    kept = encoded_row("a/1.jpg", status="kept", reason="a video (.mp4)", saved_bytes=0, rgc_uri=None)
    kept |= {"ms_ssim": None, "bits_per_pixel": None, "width": None, "height": None}
    manifest = write_manifest(tmp_path / "out", [kept])
    for where, answer in (("TRUE", "of 1 file none is encoded"), ("source_bytes > 5000", "no file")):
        audit_to(tmp_path / "audit.html", manifest, "--where", where)
        page = (tmp_path / "audit.html").read_text()
        assert answer in page and f"where <code>{escape(where)}</code>" in page


def test_targets_are_marked_and_outliers_do_not_squeeze_the_others(tmp_path: Path) -> None:
    rows = [encoded_row(f"a/{number}.jpg", ms_ssim=0.95 + number / 1e5) for number in range(3000)]
    rows.append(encoded_row("a/bad.jpg", ms_ssim=0.2, settings='{"max_bits_per_pixel":1.5}'))
    content = content_of(tmp_path, rows)
    assert content.ms_ssim is not None and content.bits_per_pixel is not None
    assert (content.ms_ssim.targets, content.bits_per_pixel.targets) == ([0.9], [1.5])
    assert (content.ms_ssim.step, content.ms_ssim.bins[0]) == (0.002, (0.95, 200))
    assert content.ms_ssim.least == 0.2 and 0 < content.ms_ssim.outside < 10
    assert content.ms_ssim.outside + sum(photos for _, photos in content.ms_ssim.bins) == 3001
    assert [photo.source_uri for photo in content.worst[:2]] == ["a/bad.jpg", "a/0.jpg"]
    assert len(content.worst) == WORST


def test_a_long_tail_is_left_out_but_not_all_that_differs_from_most(tmp_path: Path) -> None:
    rates = [0.2 + number / 1000 for number in range(100)] + [5.0 + number for number in range(20)]
    rows = [encoded_row(f"a/{i}.jpg", bits_per_pixel=rate) for i, rate in enumerate(rates)]
    content = content_of(tmp_path / "tail", rows)
    assert content.bits_per_pixel and content.bits_per_pixel.outside == 20
    assert content.bits_per_pixel.most == 24 and content.bits_per_pixel.step == 0.01
    same = [encoded_row(f"a/{i}.jpg", bits_per_pixel=1.0 if i < 9 else 2.0) for i in range(10)]
    content = content_of(tmp_path / "same", same)
    assert content.bits_per_pixel and content.bits_per_pixel.outside == 0


def test_steps_are_nice() -> None:
    assert [nice_step(step) for step in (0.0011, 0.002, 0.03, 7, 1e-9)] == pytest.approx(
        [0.002, 0.002, 0.05, 10, 0.0001]
    )


def test_a_page_of_many_photos_with_the_longest_names_stays_small(tmp_path: Path) -> None:
    """Object names have up to 1,024 bytes, which nothing here has in common. The worst photos are there."""
    (tmp_path / "photos").mkdir()
    grain = np.random.default_rng(0).integers(-20, 20, (512, 512, 3))
    with Image.open(sample_folder() / "astronaut.png") as image:
        pixels = np.array(image.convert("RGB")) + grain
    for number in range(WORST):
        photo = Image.fromarray(np.roll(pixels, 80 * number, axis=1).clip(0, 255).astype(np.uint8))
        photo.save(tmp_path / "photos" / f"{number}.png")
    CliRunner().invoke(
        app, ["compress", str(tmp_path / "photos"), str(tmp_path / "real"), "--iterations", "1"]
    )
    rows = [
        encoded_row(f"gs://bucket/{number:05}{'ü' * 400}/{'y' * 180}.jpg", ms_ssim=0.999)
        for number in range(20_000)
    ]
    audit_to(tmp_path / "audit.html", write_manifest(tmp_path / "out", rows), tmp_path / "real")
    page = (tmp_path / "audit.html").read_text()
    assert page.count('<img src="data:image/webp') == 3 * WORST
    assert 1_500_000 < len(page.encode()) < MAX_PAGE_BYTES


def test_kept_and_failed_photos_are_both_among_a_sample(tmp_path: Path) -> None:
    of_status = {"ms_ssim": None, "bits_per_pixel": None, "rgc_uri": None, "reason": "why"}
    rows = [encoded_row(f"a/{number}.jpg") for number in range(3000)]
    rows += [encoded_row(f"b/{i}.jpg", status="failed", **of_status) for i in range(500)]
    rows += [encoded_row(f"c/{i}.jpg", status="kept", **of_status) for i in range(500)]
    found = Counter(row[1] for row in content_of(tmp_path, rows).photos.rows)
    assert found["failed"] == found["kept"] == 150 and 1100 <= found["encoded"] <= 1700


def test_the_page_says_what_its_runs_are_and_what_storage_costs(tmp_path: Path) -> None:
    rows = [encoded_row(f"a/{run}.jpg", run_id=f"2026-{run}") for run in range(3)]
    kept = {"status": "kept", "saved_bytes": 0, "run_id": "2026-0"}
    rows += [encoded_row(f"b/{i}.txt", reason="x" * i, **kept) for i in range(107)]
    manifest = write_manifest(tmp_path / "out", rows)
    audit_to(tmp_path / "audit.html", manifest, "--storage-price", "1000000")
    page = " ".join((tmp_path / "audit.html").read_text().split())
    assert "Of each photo the latest run counts; these are 3 runs." in page
    assert "The last photo was finished on 24 November 2026, 00:00 UTC." in page
    assert "storing it would take 2.24 USD a month" in page
    assert "and 7 more reasons" in page


def test_a_page_that_cannot_be_written_is_said(archive: Path) -> None:
    for bad in ("/dev/null/audit.html", "s3://bucket/audit.html"):
        result = CliRunner().invoke(app, ["audit", str(archive / "out"), "--html", bad])
        assert result.exit_code == 1 and bad.partition("/audit")[0] in result.output
        assert "7 files: 5 encoded" in result.output  # what was read is not lost


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_page_is_made_on_the_device_that_was_asked_for(archive: Path, tmp_path: Path) -> None:
    arguments = ["audit", str(archive / "out"), "--html", str(tmp_path / "audit.html"), "--device", "cuda"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "--device" in result.output


def texts(chrome: Chrome, selector: str) -> list[str]:
    return [found.text for found in chrome.find_elements(By.CSS_SELECTOR, selector)]


def press(chrome: Chrome, selector: str) -> None:
    """As one does who has no mouse."""
    chrome.execute_script("document.querySelector(arguments[0]).focus()", selector)
    chrome.switch_to.active_element.send_keys(Keys.ENTER)


@IN_BROWSER
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_sort_search_and_open_a_folder(
    page: Path, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    with browser(page, size, scheme, tmp_path) as chrome:
        paper = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= size[0]

        names = "#photos-body th > span"
        assert len(texts(chrome, names)) == 7
        for direction in ("ascending", "descending"):
            chrome.find_element(By.CSS_SELECTOR, "#photos-head th:first-child button").click()
            heading = chrome.find_element(By.CSS_SELECTOR, "#photos-head [aria-sort]")
            assert (heading.text, heading.get_attribute("aria-sort")) == ("file", direction)
        assert texts(chrome, names)[0].startswith("d.jpg\ntrip/day 2/")
        chrome.find_element(By.ID, "search").send_keys("TRUNCATED")
        assert [name.partition("\n")[0] for name in texts(chrome, names)] == ["broken.jpg"]
        assert texts(chrome, "#photos-status") == ["1 of 7 files"]

        row = "#folders [role=button]"
        assert [each.get_attribute("aria-label") for each in chrome.find_elements(By.CSS_SELECTOR, row)] == [
            "trip"
        ]
        press(chrome, row)
        WebDriverWait(chrome, 10).until(lambda _: texts(chrome, "#crumbs button"))
        assert texts(chrome, "#crumbs [aria-current]") == ["trip"]
        press(chrome, "#crumbs button")
        WebDriverWait(chrome, 10).until(lambda _: not texts(chrome, "#crumbs button"))
        WebDriverWait(chrome, 10).until(lambda _: chrome.find_elements(By.CSS_SELECTOR, row))[0].click()
        WebDriverWait(chrome, 10).until(lambda _: texts(chrome, "#crumbs button"))
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= size[0]


@IN_BROWSER
def test_a_point_names_its_photo_and_no_name_does_harm(page: Path, tmp_path: Path) -> None:
    with browser(page, DESKTOP, "light", tmp_path) as chrome:
        chrome.find_element(By.ID, "search").send_keys("onerror")
        assert len(texts(chrome, "#photos-body tr")) == 1
        named = set()
        for point in chrome.find_elements(By.CSS_SELECTOR, "#scatter .mark-symbol path"):
            chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
            ActionChains(chrome).move_to_element(point).perform()
            WebDriverWait(chrome, 10).until(lambda _: texts(chrome, "#vg-tooltip-element.visible td.value"))
            named.add(texts(chrome, "#vg-tooltip-element td.value")[0])
        assert HARMFUL in named
        assert chrome.title.startswith("rgc audit:")
        assert chrome.find_elements(By.CSS_SELECTOR, "img[src=x], img[onerror]") == []


@IN_BROWSER
def test_on_paper_everything_is_open_and_the_table_says_what_it_leaves_out(
    page: Path, tmp_path: Path
) -> None:
    states = "[...document.querySelectorAll('details')].map((each) => each.open)"
    with browser(page, DESKTOP, "dark", tmp_path) as chrome:
        assert chrome.execute_script(f"return {states}") == [False] * 3
        chrome.find_element(By.CSS_SELECTOR, "details summary").click()
        chrome.execute_script(f"addEventListener('beforeprint', () => (window.printed = {states}))")
        assert base64.b64decode(chrome.print_page()).startswith(b"%PDF-")
        assert chrome.execute_script("return window.printed") == [True] * 3
        assert chrome.execute_script(f"return {states}") == [True, False, False]  # as they were
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert texts(chrome, "#photos-status") == ["7 of 7 files"]
        assert not any(texts(chrome, ".search label, #more, summary"))
        assert chrome.execute_script("return getComputedStyle(document.body).color") == "rgb(28, 31, 36)"
