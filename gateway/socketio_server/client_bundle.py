"""The stock browser client, served from the Socket.IO path as by Node's server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

BUNDLE: Final = Path(__file__).parent / "static"
FILES: Final = ("socket.io.js", "socket.io.min.js", "socket.io.js.map", "socket.io.min.js.map")


class BundleMissing(Exception):
    """The files of the client are not installed; the message says how to install them."""


def add_routes(app: web.Application, path: str) -> None:
    """Serve the files under ``path``, which ends in a slash.

    Raises: BundleMissing.
    """
    for name in FILES:
        if not (BUNDLE / name).is_file():
            raise BundleMissing(
                f"the browser client {name} is not installed: run `make install`, or set GATEWAY_SERVE_CLIENT=false"
            )
        app.router.add_get(path + name, _serve)


async def _serve(request: web.Request) -> web.StreamResponse:
    file = BUNDLE / request.path.rpartition("/")[2]
    content_type = "application/json" if file.suffix == ".map" else "text/javascript"
    # Any page may load the script: it is public and has no data of a user.
    headers = {
        "Content-Type": f"{content_type}; charset=utf-8",
        "Cache-Control": "public, max-age=3600",
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(file, headers=headers)
