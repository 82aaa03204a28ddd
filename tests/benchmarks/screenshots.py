"""The audit's page as one sees it: on a desktop and on a phone, in the light and in the dark.

    python -m tests.benchmarks.screenshots FOLDER [AUDITED]

AUDITED is a page that `rgc audit --html` has written, or an output of `rgc compress`, of which it makes one.
Without it, scikit-image's sample photos are sorted into folders and recompressed. Below FOLDER it writes
desktop-light.png, phone-dark.png and so on, each of the whole page, and audit.webp, its top, for the docs.
"""

import argparse
import base64
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from pipeline.cli.samples import sample_folder
from tests.browser import DESKTOP, PHONE, browser

_FOLDERS = {
    "animals": "chelsea horse",
    "documents": "page text",
    "drawings": "chessboard_GRAY chessboard_RGB color logo phantom",
    "at home": "clock_motion coffee coins",
    "people": "astronaut camera",
    "science/cells": "cell ihc microaneurysms retina",
    "science/space": "hubble_deep_field moon rocket",
    "streets": "motorcycle_left motorcycle_right",
    "textures": "brick grass gravel",
}
_TOP = "section[aria-labelledby=quality-title]"  # the last section that the docs' picture shows


def rgc(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli.main", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compress_samples(folder: Path) -> Path:
    """Gives the output."""
    for name, photos in _FOLDERS.items():
        (folder / "photos" / name).mkdir(parents=True)
        for photo in photos.split():
            (found,) = sample_folder().glob(f"{photo}.[jp][pn]g")
            shutil.copy(found, folder / "photos" / name)
    rgc("compress", folder / "photos", folder / "out")
    return folder / "out"


def screenshot(chrome: Chrome) -> Image.Image:
    """Of the whole page, however long."""
    whole = chrome.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    wanted = {"captureBeyondViewport": True, "clip": {**whole, "scale": 1}}
    data = chrome.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("audited", type=Path, nargs="?")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    page: Path = arguments.audited or compress_samples(folder)
    if page.is_dir():
        rgc("audit", page, "--html", folder / "audit.html")
        page = folder / "audit.html"
    for device, size in {"desktop": DESKTOP, "phone": PHONE}.items():
        for scheme in ("light", "dark"):
            with (
                tempfile.TemporaryDirectory() as profile,
                browser(page.resolve(), size, scheme, Path(profile)) as chrome,
            ):
                picture = screenshot(chrome)
                bottom = "return document.querySelector(arguments[0])?.getBoundingClientRect().bottom"
                top = chrome.execute_script(bottom, _TOP)
            picture.save(folder / f"{device}-{scheme}.png")
            if (device, scheme) == ("desktop", "light") and top:
                picture.crop((0, 0, picture.width, int(top))).save(folder / "audit.webp", quality=80)


if __name__ == "__main__":
    main()
