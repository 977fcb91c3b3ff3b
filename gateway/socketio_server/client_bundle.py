"""The stock browser client, served from the Socket.IO path as by Node's server: as it is, or compressed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import ETag, hdrs, web

from gateway.transport.deflate import Accepted
from gateway.transport.http_response import LargeBody

BUNDLE: Final = Path(__file__).parent / "static"
_SCRIPTS: Final = ("socket.io.js", "socket.io.min.js", "socket.io.esm.min.js")
"""All of the package but those for msgpack, which the gateway does not speak."""
FILES: Final = (*_SCRIPTS, *(f"{name}.map" for name in _SCRIPTS))
_HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "Vary": "Accept-Encoding",
    # Any page may load the script: it is public and has no data of a user.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


class BundleMissing(Exception):
    """The files of the client are not installed; the message says how to install them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a file. ``tag`` follows from its bytes, so it is the same on every replica."""

    content: bytes
    tag: str
    coding: str | None

    @classmethod
    def read(cls, path: Path, coding: str | None = None) -> Variant:
        """Read a file."""
        content = path.read_bytes()
        return cls(content, sha256(content).hexdigest()[:20], coding)


class ClientFile:
    """A file of the client with its variants."""

    def __init__(self, name: str) -> None:
        """Read the file. Raises BundleMissing."""
        path, compressed = BUNDLE / name, BUNDLE / f"{name}.gz"
        if not path.is_file():
            raise BundleMissing(
                f"the browser client {name} is not installed: run `make install`, or set GATEWAY_SERVE_CLIENT=false"
            )
        self._content_type = "application/json" if path.suffix == ".map" else "text/javascript"
        self._plain = Variant.read(path)
        self._compressed = Variant.read(compressed, "gzip") if compressed.is_file() else None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer GET and HEAD with the variant that the client accepts, or 304 if it already has it."""
        variant = self._choose(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))
        if variant is None:
            return web.Response(
                status=406, text="the file is sent as it is or with gzip; Accept-Encoding excludes both"
            )
        answer = web.Response(headers=_HEADERS)
        answer.etag = variant.tag
        if _has(request.if_none_match, variant.tag):
            answer.set_status(304)
            return answer
        answer.content_type, answer.charset = self._content_type, "utf-8"
        if variant.coding is not None:
            answer.headers[hdrs.CONTENT_ENCODING] = variant.coding
        answer.body = LargeBody(variant.content, is_shared=True)
        return answer

    def _choose(self, lines: Sequence[str]) -> Variant | None:
        accepted = Accepted(lines)
        if accepted.gzip and self._compressed is not None:
            return self._compressed
        return self._plain if accepted.identity else None


def _has(tags: Sequence[ETag] | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names the tag; weak ones are compared too (RFC 9110 §13.1.2)."""
    return any(each.value in {tag, "*"} for each in tags or ())


def add_routes(app: web.Application, path: str) -> None:
    """Serve the files under ``path``, which ends in a slash.

    Raises: BundleMissing.
    """
    for name in FILES:
        app.router.add_get(path + name, ClientFile(name).serve)
