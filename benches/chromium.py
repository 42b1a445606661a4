"""A real browser, driven by playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A container's root has no sandbox, and little shared memory.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")


@contextmanager
def chromium() -> Iterator[Any]:
    """Give the system's Chromium, or the one that `playwright install chromium` has put there.

    While it is open, this thread has a running event loop.

    Raises
    ------
    FileNotFoundError
        There is none; the message says how to install it.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            message = "no Chromium here: apt-get install chromium, or playwright install chromium"
            raise FileNotFoundError(message)
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
