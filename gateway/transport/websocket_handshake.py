"""The opening handshake of a WebSocket on the side of the server (RFC 6455 §4.2)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from hashlib import sha1
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from gateway.transport import deflate

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_VERSION: Final = "13"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""RFC 9110 §5.6.2."""


def accept_handshake(headers: CIMultiDictProxy[str], *, offers_deflate: bool) -> dict[str, str] | None:
    """Return the headers of the answer 101, or None if the request is not an opening handshake."""
    key = headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
    if (
        headers.get(hdrs.SEC_WEBSOCKET_VERSION) != _VERSION
        or not _is_key(key)
        or not _requests_upgrade(headers)
    ):
        return None
    digest = sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()
    answer = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": b64encode(digest).decode(),
    }
    offered = headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL)
    if offered is not None:
        # The first one offered, as on the reference server. A browser that gets none closes the connection.
        protocol = offered.split(",")[0].strip()
        if not _TOKEN.fullmatch(protocol):
            return None
        answer["Sec-WebSocket-Protocol"] = protocol
    extension = _extension(headers) if offers_deflate else None
    if extension is not None:
        answer["Sec-WebSocket-Extensions"] = extension
    return answer


def _requests_upgrade(headers: CIMultiDictProxy[str]) -> bool:
    tokens = ",".join(headers.getall(hdrs.CONNECTION, ())).lower().split(",")
    return headers.get(hdrs.UPGRADE, "").lower() == "websocket" and "upgrade" in map(str.strip, tokens)


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _extension(headers: CIMultiDictProxy[str]) -> str | None:
    return deflate.answer_offers(",".join(headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())))
