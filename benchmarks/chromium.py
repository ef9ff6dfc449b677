"""A headless Chromium of the machine, for pages that open from disk: without a profile, a service or the network."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    # Containers have little shared memory.
    "--disable-dev-shm-usage",
)
_DRAWN = "return (document.getElementById('ct-canvas') || {dataset: {}}).dataset.drawn || ''"
_TIMEOUT_S = 180.0


def missing() -> str:
    """What of a browser this machine lacks, in words; empty where nothing is missing."""
    found = [one for one in BROWSERS if shutil.which(one)]
    lacks = [] if found else ["Chromium"]
    lacks += [] if shutil.which("chromedriver") else ["chromedriver"]
    return f"no {' and no '.join(lacks)} on this machine (apt-get install chromium chromium-driver)" if lacks else ""


@contextmanager
def chromium(width: int = 1280, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A browser of that size, with its console and network logged. Raises RuntimeError where the machine has none."""
    if lacks := missing():
        raise RuntimeError(lacks)
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = next(path for one in BROWSERS if (path := shutil.which(one)))
        for switch in (*_SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        # With the driver named, selenium looks for none on the network.
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_page_load_timeout(_TIMEOUT_S)
            yield driver
        finally:
            driver.quit()


def opened(driver: webdriver.Chrome, page: Path, fragment: str = "") -> float:
    """Open a report page whose first case has a CT; seconds from the call until its slice is drawn.

    Raises TimeoutError where none is drawn within three minutes.
    """
    driver.get("about:blank")
    start = time.perf_counter()
    driver.get(page.resolve().as_uri() + fragment)
    while not driver.execute_script(_DRAWN):
        if time.perf_counter() - start > _TIMEOUT_S:
            raise TimeoutError(f"{page}: no CT slice was drawn in {_TIMEOUT_S:g} s")
        time.sleep(0.01)
    return time.perf_counter() - start
