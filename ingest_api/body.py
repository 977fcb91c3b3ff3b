"""Read request bodies within their limits of size and time, and check their encoding and media type."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from gateway.domain.bounded_body import BodyTooLarge, read_bounded
from ingest_api.errors import Problem
from ingest_api.request import JSON, Request

_CONTINUE: Final = "100-continue"
_JSON: Final = re.compile(
    r"application/json[ \t]*(?:;[ \t]*charset=\"?utf-8\"?[ \t]*)?", re.ASCII | re.IGNORECASE
)


class StreamedBody:
    """The body of a request that aiohttp parses. Satisfies ``request.BodyStream``."""

    def __init__(self, aiohttp_request: web.Request) -> None:
        self._request = aiohttp_request

    async def read(self, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """Return the whole body as it was sent.

        Raises:
            Problem: The body is too large, too slow or incomplete.
        """
        aiohttp_request = self._request
        try:
            async with asyncio.timeout(timeout_seconds):
                if (
                    hdrs.EXPECT in aiohttp_request.headers
                    and aiohttp_request.version >= HttpVersion11
                    and not aiohttp_request.content.is_eof()
                ):
                    await _send_continue(aiohttp_request)
                return await read_bounded(aiohttp_request.content.iter_any(), max_bytes)
        except BodyTooLarge:
            raise _too_large(max_bytes) from None
        except TimeoutError:
            raise Problem(
                "body_timeout", f"the body did not arrive within {timeout_seconds:g} seconds"
            ) from None
        except (ConnectionError, RequestPayloadError):
            raise Problem("bad_request", "the body ended before it was complete") from None


def check_head(request: Request, *, max_body_bytes: int) -> None:
    """Check the headers that announce the body, before any of it is read.

    Raises:
        Problem: Content-Encoding, Expect or Content-Length is not acceptable.
    """
    headers = request.headers
    if hdrs.CONTENT_ENCODING in headers:
        # The signature covers the bytes on the wire. A server that decompresses the body checks other bytes.
        raise Problem("unsupported_encoding", "a body is sent as it is, without Content-Encoding")
    if headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
        raise Problem("unsupported_expectation", f"the only expectation that is met is {_CONTINUE}")
    if int(headers.get(hdrs.CONTENT_LENGTH, "0")) > max_body_bytes:
        raise _too_large(max_body_bytes)


async def read_body(request: Request, *, max_body_bytes: int, timeout_seconds: float) -> bytes:
    """Return the whole body as it was sent.

    Raises:
        Problem: The body is too large, too slow or incomplete.
    """
    if not isinstance(request.body, bytes):
        return await request.body.read(max_bytes=max_body_bytes, timeout_seconds=timeout_seconds)
    if len(request.body) > max_body_bytes:
        raise _too_large(max_body_bytes)
    return request.body


def check_media_type(request: Request, body: bytes) -> None:
    """Check that Content-Type is JSON in UTF-8. An empty body needs no Content-Type.

    Raises:
        Problem: The media type is missing, repeated or another one.
    """
    values: Sequence[str] = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(values) == 1 and (values[0] == JSON or _JSON.fullmatch(values[0])):
        return
    if body or values:
        raise Problem("unsupported_media_type", f"the body is JSON in UTF-8: send Content-Type: {JSON}")


async def _send_continue(aiohttp_request: web.Request) -> None:
    await aiohttp_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # As in aiohttp's own handler: no byte of the response itself has been sent yet.
    aiohttp_request.writer.output_size = 0
    await aiohttp_request.writer.drain()


def _too_large(max_body_bytes: int) -> Problem:
    return Problem("body_too_large", f"a body has at most {max_body_bytes} bytes")
