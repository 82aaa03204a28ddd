"""The SQL of docs/auditing.md, and BigQuery's table."""

import re
from pathlib import Path
from typing import Any

import duckdb

from pipeline.audit.manifests import query
from pipeline.audit.report import audit
from tests.manifests import FIRST, SECOND, kept, row, write_run
from transforms.manifest.schema import SCHEMA

ROOT = Path(__file__).parents[3]


def answers(output: Path) -> list[list[dict[str, Any]]]:
    """To that page's questions about an output of two runs; as they stand there, but for names."""
    runs = sorted(path.name.removeprefix("run=") for path in (output / "manifest").iterdir())
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "auditing.md").read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("OUT/", f"{output}/")
    for name, run in zip(("RUN1", "RUN2"), runs, strict=True):
        text = text.replace(name, run)
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    with duckdb.connect() as database:
        for statement in statements[:2]:
            database.execute(statement)  # the views
        return [query(database, statement) for statement in statements[2:]]


def test_questions_of_the_page_run_on_a_real_manifest(compressed: Path) -> None:
    saved, folders, worst, why, changed = answers(compressed)
    totals = audit(str(compressed)).totals
    assert saved[0]["photos"] == 4 and saved[0]["bytes_after"] == totals["bytes_after"]
    assert sum(each["saved"] for each in folders) == totals["saved_bytes"]
    assert worst[0]["ms_ssim"] == totals["worst_ms_ssim"] and len(worst) == 2
    assert {each["status"]: each["photos"] for each in why} == {"kept": 1, "failed": 1}
    assert len(changed) == 2 and all(each["ms_ssim_gained"] > 0 for each in changed)


def test_questions_of_the_readme_on_odd_manifests(tmp_path: Path) -> None:
    """A photo that was kept and then encoded has changed; of nothing no share is saved."""
    write_run(tmp_path / "a", FIRST, [kept("/p/a.jpg", "hard"), row("/p/b.jpg", rgc_sha256="1")])
    encoded = [row(f"/p/{name}.jpg", SECOND, rgc_sha256="1") for name in "ab"]
    write_run(tmp_path / "a", SECOND, encoded)
    *_, changed = answers(tmp_path / "a")
    assert changed == [{"source_uri": "/p/a.jpg", "bytes_gained": 900_000, "ms_ssim_gained": None}]
    for run in (FIRST, SECOND):
        write_run(tmp_path / "b", run, [kept("/p/a.jpg", "not a photo", run, source_bytes=0)])
    assert answers(tmp_path / "b")[0][0]["share_saved"] is None


def test_the_table_of_bigquery_has_the_columns_of_the_manifest() -> None:
    definition = (ROOT / "infra" / "bigquery" / "manifest.sql").read_text()
    columns = re.findall(r"^  (\w+) ([A-Z0-9]+),?$", definition, re.MULTILINE)
    types = {"string": "STRING", "int32": "INT64", "int64": "INT64", "double": "FLOAT64"}
    assert columns == [(field.name, types.get(str(field.type), "TIMESTAMP")) for field in SCHEMA]
