"""Raw HTTP requests of an attacker: written in pieces, answered or cut off, never an error of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0
PIECE_SECONDS = 0.005
"""The event loop of the server reads the pieces of a request one by one."""
NO_ANSWER = 0
_READ_BYTES = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"


async def send(
    url: str, pieces: Sequence[bytes], *, ends_with: bytes = _END_OF_HEAD, is_cut_off: bool = False
) -> bytes:
    """Send bytes on a connection of their own; return the answer up to ``ends_with``, or as much as there is of it.

    ``is_cut_off``: the connection is aborted after the last piece, and nothing is returned.
    """
    address = urlsplit(url)
    writer = None
    answer = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(PIECE_SECONDS)
                writer.write(piece)
                await writer.drain()
            while not is_cut_off and ends_with not in answer and (chunk := await reader.read(_READ_BYTES)):
                answer += chunk
            await asyncio.sleep(PIECE_SECONDS)
    except (OSError, TimeoutError):
        pass  # The gateway may close the connection of an attacker at any time.
    finally:
        if writer is not None:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
    return answer


def status_of(answer: bytes) -> int:
    """Return the status of an answer, NO_ANSWER without one."""
    return int(answer[9:12]) if answer[9:12].isdigit() else NO_ANSWER


def encode_request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request. A Content-Length is added unless the headers say how long the body is."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not {"Content-Length", "Transfer-Encoding"} & set(headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _END_OF_HEAD + body


def text_frame(text: str) -> bytes:
    """Return a WebSocket frame of a client; its mask changes nothing."""
    payload = text.encode()
    if len(payload) <= 125:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 65_536:
        length = b"\xfe" + len(payload).to_bytes(2, "big")
    else:
        length = b"\xff" + len(payload).to_bytes(8, "big")
    return b"\x81" + length + bytes(4) + payload
