"""The files of the page, as they are sent."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from latewood import show

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    # Nothing runs, shows or is asked but what this service itself has sent as a file; pictures come with answers.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Kept by the browser, but never used without asking whether it is still so.
    "cache-control": "no-cache",
}
FOLDERS = (Path(__file__).parent, Path(show.__file__).parent)
"""Where the files lie: the page's own, and those of the one renderer."""


class PageFile:
    """A file in memory, with a name for its content by which a browser asks whether it has changed."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._type = TYPES[path.suffix]
        self._headers = {**HEADERS, "etag": f'"{hashlib.sha256(self._content).hexdigest()[:16]}"'}

    def __len__(self) -> int:
        """Count the bytes."""
        return len(self._content)

    def answer(self, request: Request) -> Response:
        """Send it, unless the browser has it, or would look for all else in another place."""
        path = request.url.path
        if self._type == TYPES[".html"] and not path.endswith("/"):
            # Inside another application, whose path to this one ends so.
            return RedirectResponse(f"{path.rpartition('/')[2]}/")
        if self._headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers, media_type=self._type)


def page_files() -> dict[str, PageFile]:
    """Give the files by their paths on the service; the page itself is at `/`."""
    found = {
        f"/page/{path.name}": PageFile(path)
        for folder in FOLDERS
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES
    }
    return {"/": found.pop("/page/index.html"), **found}
