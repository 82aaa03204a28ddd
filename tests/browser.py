"""A page in Chromium."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PHONE, DESKTOP = (390, 844), (1280, 900)
_FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync"
)


@contextmanager
def browser(page: Path, size: tuple[int, int], scheme: str, profile: Path) -> Iterator[Chrome]:
    """Chromium with an audit's page open; at the end it must have reported no error and fetched nothing.

    Args:
        size: of its window, in CSS pixels.
        scheme: "light" or "dark".
        profile: a folder of its own.
    """
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*_FLAGS.split(), f"user-data-dir={profile}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options, Service(str(DRIVER))) as chrome:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        chrome.get_log("performance")  # of the empty tab that was there first
        chrome.get(page.as_uri())
        WebDriverWait(chrome, 30).until(lambda _: chrome.find_elements(By.CSS_SELECTOR, "#scatter svg"))
        yield chrome
        assert chrome.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
        sent = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in sent if not url.startswith("data:")] == [page.as_uri()]
