"""How soon the page shows a hit after a key, on the demo's index in a real browser; and the README's picture of it.

python benches/page.py [--picture docs/page.png] [--no-record]
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chromium import chromium
from common import write_record

CLAIM = "a higher birth weight makes breast cancer more likely"
OTHERS = ("vitamin B12 and homocysteine", "AMPK activation in the lungs", "vaccines and antibodies of infants")
# Set on each key, and read when hits have been put into the page and drawn.
WATCH = """() => {
  window.taken = [];
  let pressed = null;
  document.getElementById("query").addEventListener("input", () => { pressed = performance.now(); });
  new MutationObserver(() => {
    if (pressed === null || !document.querySelector(".hit")) return;
    const begun = pressed;
    pressed = null;
    requestAnimationFrame(() => requestAnimationFrame(() => window.taken.push(performance.now() - begun)));
  }).observe(document.querySelector(".found"), { childList: true });
}"""


@contextmanager
def demo() -> Iterator[str]:
    """Serve the demo, and give its address."""
    command = [sys.executable, "-m", "latewood", "demo", "--serve", "--json", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                message = f"the demo did not start; {' '.join(command[1:])} says why"
                raise RuntimeError(message)
            yield json.loads(told)["address"]
        finally:
            process.terminate()


def measure(page: Any) -> list[float]:
    """Type texts with a pause behind each letter, and give the milliseconds from a key to the hits on the screen."""
    page.evaluate(WATCH)
    for text in (CLAIM, *OTHERS):
        page.locator("#query").fill("")
        page.locator("#query").press_sequentially(text, delay=250)
    page.wait_for_timeout(500)
    return sorted(page.evaluate("window.taken"))


def picture(browser: Any, address: str, path: Path) -> None:
    """Take the README's picture: a claim, with one token of it pointed at."""
    context = browser.new_context(viewport={"width": 1180, "height": 760}, device_scale_factor=1.5)
    page = context.new_page()
    page.goto(f"{address}/#q={CLAIM}")
    page.wait_for_selector(".hit")
    page.locator(".q", has_text="cancer").hover()
    page.wait_for_timeout(800)
    page.screenshot(path=path)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, help="write the README's picture here")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    with demo() as address, chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".pane")
        page.wait_for_timeout(500)
        taken = measure(page)
        page.close()
        if options.picture:
            picture(browser, address, options.picture)
    content = {
        "keys": len(taken),
        "p50_ms": round(taken[len(taken) // 2], 1),
        "p95_ms": round(taken[int(0.95 * len(taken))], 1),
        "max_ms": round(taken[-1], 1),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(content, indent=2))
    if not options.no_record:
        print(f"written: {write_record('page', content)}")


if __name__ == "__main__":
    main()
