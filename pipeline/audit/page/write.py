"""Writes the page: one HTML file with everything in it, which asks the network for nothing."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model.settings import DEFAULT_TARGET_MS_SSIM
from pipeline.audit.page.content import read_content, size
from pipeline.audit.page.thumbnails import AMPLIFIED, compare_photos
from pipeline.audit.report import AuditReport
from transforms.storage.files import write_bytes

_FOLDER = Path(__file__).parent
_SCRIPTS = ("helpers.js", "charts.js", "folders.js", "photos.js", "start.js")


def write_page(
    database: duckdb.DuckDBPyConnection,
    report: AuditReport,
    path: str,
    manifests: Sequence[str],
    where: str | None,
    device: str,
) -> None:
    """Writes the page, with thumbnails of .rgc files and originals that are there.

    Args:
        database: of `open_manifests`; `report` is of the same one.
        path: local or gs://.
        manifests, where: shown on the page.
        device: "cpu" or "cuda".

    Raises:
        OSError, ValueError: `path` cannot be written.
    """
    content = read_content(database, report)
    page = _render(
        content=content,
        report=report,
        comparisons=compare_photos(content.worst, device),
        data={
            "folders": [asdict(bar) for bar in content.folders],
            "ms_ssim": content.ms_ssim and asdict(content.ms_ssim),
            "bits_per_pixel": content.bits_per_pixel and asdict(content.bits_per_pixel),
            "photos": content.photos.rows,
        },
        manifests=manifests,
        where=where,
    )
    write_bytes(path, page.encode())


def _render(**content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {"bytes": size, "count": "{:,}".format}
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")  # with Vega and Vega-Lite
    own = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    scripts = [script.replace("</script", r"<\/script") for script in (library, own)]
    return environment.get_template("page.html").render(
        amplified=AMPLIFIED,
        default_target=DEFAULT_TARGET_MS_SSIM,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        **content,
    )


def _policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy: only the page's own scripts run, and nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
