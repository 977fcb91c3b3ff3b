"""Read a body that aiohttp is still receiving, within its limits of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from gateway.domain.bounded_body import ArrivingBodies, BodyDropped, BodyTooLarge
from gateway.domain.errors import release_frames
from ingest_api.errors import Problem


class StreamedBody:
    """The body of a request that aiohttp parses. Satisfies ``request.BodyStream``."""

    def __init__(self, aiohttp_request: web.Request, arriving: ArrivingBodies) -> None:
        """``arriving`` bounds this body together with all others."""
        self._request = aiohttp_request
        self._arriving = arriving

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
                content = aiohttp_request.content
                return await self._arriving.read(
                    content.readany, max_bytes, drop=lambda: content.set_exception(BodyDropped())
                )
        except BodyTooLarge:
            raise too_large(max_bytes) from None
        except TimeoutError:
            raise Problem(
                "body_timeout", f"the body did not arrive within {timeout_seconds:g} seconds"
            ) from None
        except BodyDropped as error:
            release_frames(error)
            raise Problem(
                "overloaded",
                "more bodies arrive at once than this replica can hold; repeat the request",
                headers={"Retry-After": "1"},
            ) from None
        except (ConnectionError, RequestPayloadError) as error:
            # The reader of the body keeps the error, whose traceback holds the reader and all that has arrived.
            release_frames(error)
            raise Problem("bad_request", "the body ended before it was complete") from None


async def _send_continue(aiohttp_request: web.Request) -> None:
    await aiohttp_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # As in aiohttp's own handler: no byte of the response itself has been sent yet.
    aiohttp_request.writer.output_size = 0
    await aiohttp_request.writer.drain()


def too_large(max_body_bytes: int) -> Problem:
    """The problem of a body that is announced or sent with more bytes."""
    return Problem("body_too_large", f"a body has at most {max_body_bytes} bytes")
