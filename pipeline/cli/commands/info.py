import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from model.files import view_of
from model.format.container import RgcError, RgcFile, read_rgc
from pipeline.cli.options import place
from pipeline.cli.terminal import fail, stdout
from transforms.storage.files import read_bytes


def info(
    rgc: Annotated[str, place("RGC")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what a .rgc file holds, without decoding it."""
    try:
        content = _content_of(read_rgc(read_bytes(rgc), rgc))
    except (RgcError, OSError) as error:
        fail(str(error))
    if as_json:
        print(json.dumps(content))
        return
    for key, value in content.items():
        if key != "iterations":
            stdout.print(f"{key}: {value}", highlight=False, markup=False)
    for number, iteration in enumerate(content["iterations"], start=1):
        rate = iteration["bytes"] * 8 / (content["width"] * content["height"])
        quality = f"MS-SSIM {iteration['ms_ssim']:.4f}"
        stdout.print(f"iteration {number}: {iteration['bytes']} bytes, {rate:.3f} bits per pixel, {quality}")


def _content_of(file: RgcFile) -> dict[str, Any]:
    """Ready for JSON."""
    lengths = file.prefix_bytes()
    seen = view_of(file)
    metadata = {name: len(getattr(seen, name)) for name in ("exif", "icc_profile", "xmp")}
    return {
        "width": file.width,
        "height": file.height,
        "colour": "grey" if file.grey else "RGB",
        "model": file.model_id,
        "complete": len(file.codes) == len(file.ms_ssim),
        **{f"{name}_bytes": size for name, size in metadata.items()},
        "alpha_bytes": len(file.alpha),
        "metadata_blocks": len(file.metadata.blocks) if file.metadata is not None else 0,
        "source": asdict(file.source) if file.source else {},
        "iterations": [
            {"bytes": length, "ms_ssim": quality}
            for length, quality in zip(lengths, file.ms_ssim, strict=False)
        ],
    }
