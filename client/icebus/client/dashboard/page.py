"""The page as files: what `script/dashboard` built, as it lies in the wheel."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from icebus.client.dashboard.built import NOT_BUILT, PAGE, is_built

ASSETS = "assets/"
"""Files whose names have a hash of what is in them."""

FOREVER = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "no-cache"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""By suffix. What the system says differs between machines, and browsers refuse scripts of another
type."""


class Page(StaticFiles):
    """Serves the built files, and says so when there are none."""

    def __init__(self, directory: Path = PAGE) -> None:
        super().__init__(directory=directory, html=True, check_dir=False)
        self._directory = directory

    async def check_config(self) -> None:
        """Nothing: the page may be built while we run."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or why there is none."""
        if not is_built(self._directory):
            return PlainTextResponse(f"{NOT_BUILT}\n", 503)
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            return PlainTextResponse(
                "there is nothing here; go to the start page, /\n", error.status_code
            )
        kind = TYPES.get(Path(path).suffix if path != "." else ".html", "application/octet-stream")
        response.headers["content-type"] = kind
        response.headers["cache-control"] = FOREVER if path.startswith(ASSETS) else ASK_EACH_TIME
        return response
