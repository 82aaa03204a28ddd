"""The audit as a page: one HTML file with everything in it, which asks the network for nothing."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.audit import BYTES_PER_GB, USD_PER_GB_MONTH
from pipeline.manifests import open_manifests
from pipeline.page.content import Content, read_content, size
from pipeline.page.thumbnails import AMPLIFIED, Comparison, compare_photos
from transforms.storage import write_bytes

_FOLDER = Path(__file__).parent
_SCRIPTS = ("helpers.js", "charts.js", "folders.js", "photos.js", "start.js")


def write_page(
    manifests: Sequence[str],
    path: str,
    where: str | None = None,
    usd_per_gb_month: float = USD_PER_GB_MONTH,
) -> None:
    """Writes the page; its thumbnails are made from the .rgc files and the originals, where they are there.

    Args:
        path: local or gs://.

    Raises:
        ManifestError, WhereError: see `open_manifests`.
        OSError: `path` cannot be written.
    """
    with open_manifests(manifests, where) as database:
        content = read_content(database)
    # Only now: decoding takes the memory that the database has given back.
    comparisons = compare_photos(content.worst)
    usd_a_month = content.totals.saved / BYTES_PER_GB * usd_per_gb_month
    asked = {"manifests": manifests, "where": where, "usd_a_month": usd_a_month}
    write_bytes(path, _render(content, comparisons, asked).encode())


def _render(content: Content, comparisons: Sequence[Comparison], asked: Mapping[str, object]) -> str:
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
        content=content,
        comparisons=comparisons,
        amplified=AMPLIFIED,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        data={
            "folders": [asdict(bar) for bar in content.folders],
            "ms_ssim": content.ms_ssim and asdict(content.ms_ssim),
            "bits_per_pixel": content.bits_per_pixel and asdict(content.bits_per_pixel),
            "photos": content.photos.rows,
        },
        **asked,
    )


def _policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy: the page's own scripts run and no others, and nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
