"""An evaluation from start to end: measured, compared, printed, plotted and kept as JSON."""

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import PIL
import torch
from rich.console import Console
from rich.table import Table

from model.photos.reading import DecodedPhoto
from model.weights.loading import DEFAULT_WEIGHTS, model_id
from pipeline.evaluate.codecs import CODECS
from pipeline.evaluate.curves import (
    AXES,
    MS_SSIM,
    SSIMULACRA2,
    Axis,
    Curve,
    RatePoint,
    decibels,
    pillow_curves,
    rate_at,
    rgc_curve,
)
from pipeline.evaluate.metrics import Measures

matplotlib.use("agg")  # before pyplot: no screen is needed
from matplotlib import pyplot
from matplotlib.axes import Axes

_GOOD = 70  # of SSIMULACRA2


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and how it was made.

    Attributes:
        photos: SHA-256 of each photo's pixels by its name, in the order of the points' `photos`.
        curves: by codec; published ones have MS-SSIM alone.
        rates: by axis and codec: bits per pixel at the axis's marks, None out of the curve's range.
        made: command, date, machine, versions and rgc's model.
    """

    photos: dict[str, str]
    curves: dict[str, list[RatePoint]]
    rates: dict[str, dict[str, list[float | None]]]
    made: dict[str, str]


def evaluate(
    photos: dict[str, DecodedPhoto],
    targets: Sequence[float],
    against: Sequence[str],
    known: dict[str, list[RatePoint]],
    device: str,
    weights: Path = DEFAULT_WEIGHTS,
) -> Evaluation:
    """Measures rgc and the codecs `against` it, and compares them with each other and with `known` curves."""
    pixels = list(photos.values())
    curves = {"rgc": rgc_curve(pixels, targets, device, weights)}
    curves |= known | pillow_curves([name for name in against if name not in known], pixels)
    return compare(photos, curves, _made(device, weights))


def compare(
    photos: dict[str, DecodedPhoto], curves: dict[str, list[RatePoint]], made: dict[str, str]
) -> Evaluation:
    """Rates at equal quality of curves that were measured on the same photos, rgc's among them."""
    return Evaluation(
        {name: _fingerprint(photo) for name, photo in photos.items()},
        curves,
        {
            axis.name: {
                name: [rate_at(curve, axis, mark) for mark in axis.marks] for name, curve in curves.items()
            }
            for axis in AXES
        },
        made,
    )


def _fingerprint(photo: DecodedPhoto) -> str:
    return hashlib.sha256(f"{photo.pixels.shape} ".encode() + photo.pixels.tobytes()).hexdigest()


def _made(device: str, weights: Path) -> dict[str, str]:
    processor = str(torch.cpu.get_capabilities().get("cpu_name", platform.processor()))
    return {
        "command": " ".join(["rgc", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{processor}, {torch.get_num_threads()} threads, {platform.platform()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "versions": f"torch {torch.__version__}, Pillow {PIL.__version__}",
        "model": model_id(weights),
    }


def read_earlier(path: Path, photos: dict[str, DecodedPhoto]) -> dict[str, list[RatePoint]]:
    """The curves of other codecs from an earlier evaluation's JSON.

    Raises:
        ValueError: it is none, or one of other photos.
    """
    try:
        earlier = json.loads(path.read_text())
        theirs = earlier["photos"]
        curves = {
            name: [_read_point(point) for point in points]
            for name, points in earlier["curves"].items()
            if name in CODECS
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no evaluation's JSON: {error!r}") from error
    if sorted(theirs.values()) != sorted(map(_fingerprint, photos.values())):
        raise ValueError(f"{path} is of other photos ({len(theirs)}) than those given here ({len(photos)})")
    return curves


def _read_point(values: dict[str, Any]) -> RatePoint:
    return RatePoint(**{**values, "photos": tuple(Measures(**photo) for photo in values["photos"])})


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    for axis in AXES:
        rates = evaluation.rates[axis.name]
        if all(rate is None for row in rates.values() for rate in row):
            continue
        title = f"bits per pixel at equal {axis.label}, mean of {len(evaluation.photos)} photos"
        table = Table("", *(f"{mark:g}" for mark in axis.marks), title=title)
        for name, row in rates.items():
            table.add_row(name, *("-" if rate is None else f"{rate:.3f}" for rate in row))
        console.print(table)
    _print_points(evaluation, console)


def _print_points(evaluation: Evaluation, console: Console) -> None:
    columns = "target", "bits/pixel", "MS-SSIM", "PSNR", "SSIMULACRA2", "its median", "Butteraugli", "border"
    table = Table(*columns, title="rgc's points; border: error of the outermost four pixels over that inside")
    for point in evaluation.curves["rgc"]:
        distance = "-" if point.butteraugli is None else f"{point.butteraugli:.3f}"
        table.add_row(
            "best" if point.setting is None else f"{point.setting:g}",
            f"{point.bits_per_pixel:.4f}", f"{point.ms_ssim:.4f}", f"{point.psnr:.2f}",
            f"{point.ssimulacra2:.1f}", f"{point.median_ssimulacra2:.1f}", distance,
            f"{point.border_ratio:.2f}",
        )  # fmt: skip
    console.print(table)
    others = (
        f"{name} {min(ratios):.2f} to {max(ratios):.2f}"
        for name, curve in evaluation.curves.items()
        if (ratios := [point.border_ratio for point in curve if point.border_ratio is not None])
    )
    console.print("border of each:", ", ".join(others), highlight=False)
    if (target := target_of_median(evaluation.curves["rgc"], _GOOD)) is not None:
        console.print(f"half of the photos have SSIMULACRA2 {_GOOD} at MS-SSIM {target:.4f}", highlight=False)


def target_of_median(curve: Curve, score: float) -> float | None:
    """The lowest target at which the median of SSIMULACRA2 is `score`, linear in decibels between targets."""
    medians = sorted((p.setting, p.median_ssimulacra2 or 0) for p in curve if p.setting is not None)
    for (below, low), (above, high) in pairwise(medians):
        if low < score <= high:
            first, last = decibels(below), decibels(above)
            return 1 - 10 ** (-(first + (last - first) * (score - low) / (high - low)) / 10)
    return None


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Writes the curves as PNG and as SVG, under the name of `path` without its suffix."""
    figure, (similarity, perceived, signal) = pyplot.subplots(1, 3, figsize=(18, 5), layout="constrained")
    _plot(similarity, evaluation, MS_SSIM, "MS-SSIM, -10 log10 (1 - MS-SSIM), dB")
    _plot(perceived, evaluation, SSIMULACRA2, "SSIMULACRA2")
    _plot(signal, evaluation, Axis("psnr", "PSNR", (), float), "PSNR, dB")
    perceived.set_ylim(0, 95)
    similarity.legend(fontsize="small")
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=120)
    pyplot.close(figure)


def _plot(axes: Axes, evaluation: Evaluation, axis: Axis, label: str) -> None:
    for name, curve in evaluation.curves.items():
        style: dict[str, Any] = {"linewidth": 1, "linestyle": "--"}
        if name == "rgc":
            style = {"linewidth": 2.5, "marker": "o", "color": "black"}
        elif name in CODECS:
            style = {"linewidth": 1.5}
        if (positions := axis.positions(curve)) is not None:
            axes.plot([point.bits_per_pixel for point in curve], positions, label=name, **style)
    axes.set_ylabel(label)
    axes.set_xlabel("bits per pixel, whole files")
    axes.set_xlim(0, 1.5)
    axes.grid(alpha=0.3)


def to_json(evaluation: Evaluation) -> str:
    return json.dumps(asdict(evaluation))
