import json
from dataclasses import asdict
from typing import Annotated, Any

from model.files import view_of
from model.format.container import RgcError, RgcFile, read_rgc
from pipeline.cli.options import AsJson, place
from pipeline.cli.terminal import fail, stdout
from transforms.storage.files import read_bytes


def info(rgc: Annotated[str, place("RGC")], as_json: AsJson = False) -> None:
    """Say what a .rgc file holds, without decoding it."""
    try:
        content = _content_of(read_rgc(read_bytes(rgc), rgc))
    except (RgcError, OSError) as error:
        fail(str(error))
    if as_json:
        print(json.dumps(content))
        return
    iterations, source = content.pop("iterations"), content.pop("source")
    for key, value in [*content.items(), *((f"source's {key}", value) for key, value in source.items())]:
        text = "; ".join(value) or "none" if isinstance(value, tuple) else value
        stdout.print(f"{key}: {text}", highlight=False, markup=False)
    for number, iteration in enumerate(iterations, start=1):
        rate = iteration["bytes"] * 8 / (content["width"] * content["height"])
        quality = f"MS-SSIM {iteration['ms_ssim']:.4f}"
        stdout.print(f"iteration {number}: {iteration['bytes']} bytes, {rate:.3f} bits per pixel, {quality}")


def _content_of(file: RgcFile) -> dict[str, Any]:
    """Ready for JSON."""
    seen = view_of(file)
    return {
        "width": file.width,
        "height": file.height,
        "colour": "grey" if file.grey else "RGB",
        "model": file.model_id,
        "complete": len(file.codes) == len(file.ms_ssim),
        **{f"{name}_bytes": len(getattr(seen, name)) for name in ("exif", "icc_profile", "xmp")},
        "alpha_bytes": len(file.alpha),
        "metadata_blocks": len(file.metadata.blocks) if file.metadata is not None else 0,
        "source": asdict(file.source) if file.source else {},
        "iterations": [
            {"bytes": length, "ms_ssim": quality}
            for length, quality in zip(file.prefix_bytes(), file.ms_ssim, strict=False)
        ],
    }
