"""A real browser for tests of the page, and a service for it to open."""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A container's root has no sandbox, and little shared memory.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a browser that playwright drives: the system's, or the one that `playwright install chromium` has put there.

    While it is open, this thread has a running event loop.
    """
    driver = pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser: pip install playwright")
    with driver.sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium to test the page in: apt-get install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(indexes: Mapping[str, Any], **options: Any) -> Iterator[str]:
    """Serve indexes from a thread, and give the address."""
    uvicorn = pytest.importorskip("uvicorn")
    from latewood.serve import application

    made = application(indexes, **options)
    config = uvicorn.Config(made, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
