"""The polling transport: GETs that wait for packets, POSTs that bring packets. The session decides what is sent."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final, cast

from aiohttp import HttpVersion11, hdrs, web

from gateway.domain.bounded_body import ArrivingBodies, BodyDropped, BodyTooLarge
from gateway.domain.errors import release_frames
from gateway.interfaces import Clock
from gateway.transport import errors, packets
from gateway.transport.connection_totals import SESSION_ENDED
from gateway.transport.deflate import PollCompressor
from gateway.transport.errors import HandshakeError
from gateway.transport.http import GatewayRequestHandler
from gateway.transport.http_response import LARGE_BODY_BYTES, LargeBody
from gateway.transport.packets import MalformedPacket
from gateway.transport.receive_limits import TOO_LARGE, ReceiveLimits, exceeds_rate
from gateway.transport.session import Deliver, EngineSession

_YIELD_EVERY: Final = 64
SPACE_SECONDS: Final = 0.01
"""How long an answer waits for the memory of others that were given up."""
_POST_FRAMES: Final = 2
"""What a POST counts beside its packets (``FrameRate``)."""
_NO_STORE: Final = {"Cache-Control": "no-store"}


class ParkedPoll:
    """A GET that waits for packets, and its answer until the client has read it; satisfies ``transports.Poll``."""

    __slots__ = ("_connection", "_session", "_unwritten_bytes", "lost", "woken")

    def __init__(self, session: EngineSession, connection: GatewayRequestHandler) -> None:
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._session = session
        self._connection = connection
        self._unwritten_bytes = 0
        """The size of the answer until it is written."""

    def wake(self) -> None:
        """Let the handler answer when its task next runs, with all packets that were sent by then."""
        if not self.woken.done():
            self.woken.set_result(None)

    def on_connection_lost(self) -> None:
        """Lose the poll: the client has closed the connection of its GET, or its side of the connection.

        Both are the same to a server that does not write, so both end the session, as on the reference server. A client
        that closed its side after its GET gets packets that are ready.
        """
        if not self.lost and not (self._connection.connected and self.woken.done()):
            self.lost = True
            self._session.poll_lost()
            self.wake()

    def answer(self, size: int) -> None:
        """Note that the GET is answered with a payload of this size, and report to the session when it is read."""
        self._unwritten_bytes = size
        self._connection.on_answered = self._on_answered

    def bytes_unread(self) -> int:
        """Bytes of the answer that wait in this process."""
        return self._connection.unread_bytes or self._unwritten_bytes

    def abort(self) -> None:
        """Abort the connection if bytes of the answer wait in it."""
        if self._connection.unread_bytes:
            self._connection.give_up(SESSION_ENDED)

    def _on_answered(self, is_read: bool) -> None:
        self._unwritten_bytes = 0
        if is_read:
            self._session.answer_read(self)
        else:
            reason = "slow_consumer" if self._connection.gave_up else "transport_error"
            self._session.answer_lost(self, reason)


class PollingTransport:
    """Answers the polls and posts of open sessions."""

    def __init__(
        self,
        deliver: Deliver,
        *,
        clock: Clock,
        limits: ReceiveLimits,
        body_timeout_seconds: float,
        arriving: ArrivingBodies,
        compresses_from_bytes: int | None,
    ) -> None:
        """``arriving`` bounds all bodies that arrive at once.

        ``compresses_from_bytes``: answers of this size and above are compressed; None: none is.
        """
        self._deliver = deliver
        self._compressor = PollCompressor(compresses_from_bytes)
        self._clock = clock
        self._limits = limits
        self._body_timeout_seconds = body_timeout_seconds
        self._arriving = arriving

    async def poll(self, request: web.Request, session: EngineSession) -> web.Response | HandshakeError:
        """Answer a GET as soon as the session has a packet for it, or ends."""
        connection = cast(GatewayRequestHandler, request.protocol)
        parked = ParkedPoll(session, connection)
        if not session.park(parked):
            return errors.BAD_REQUEST
        connection.on_close = parked.on_connection_lost
        if connection.is_half_closed:
            parked.on_connection_lost()
        try:
            await parked.woken
            while not connection.make_space(session.bytes_waiting):  # noqa: ASYNC110  # the next turn frees memory
                await asyncio.sleep(SPACE_SECONDS)
        finally:
            connection.on_close = None
        if parked.lost:
            return errors.UNKNOWN_SID
        payload = session.collect()
        if payload is None:
            return _ended_response() if session.reconnects else errors.UNKNOWN_SID
        parked.answer(len(payload))
        compressed = await self._compressor.compress(
            payload, request.headers.getall(hdrs.ACCEPT_ENCODING, ())
        )
        if payload == packets.NOOP_PACKET.record:
            # Polls with messages are as many as the gateway sends; those with a noop are the client's own.
            exceeds_rate(session, self._limits, self._clock.monotonic(), 1, 0)
        answer = _text_response(payload if compressed is None else compressed)
        if compressed is not None:
            answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
        if payload == packets.CLOSE_PACKET.record:
            # A client that reconnects over a kept connection would reach this replica again.
            answer.force_close()
        return answer

    async def post(self, request: web.Request, session: EngineSession) -> web.Response | HandshakeError:
        """Receive the payload of a POST, packet by packet, in order."""
        if session.posting:
            session.fail("overlapping_posts")
            return errors.BAD_REQUEST
        session.posting = True
        try:
            return await self._receive(request, session)
        finally:
            session.posting = False

    async def _receive(self, request: web.Request, session: EngineSession) -> web.Response | HandshakeError:
        body = await self._read(request, self._limits.bytes_of(joined=session.joined))
        if isinstance(body, HandshakeError):
            session.fail(TOO_LARGE if body is errors.PAYLOAD_TOO_LARGE else "payload_rejected")
            return body
        # Counted before the first packet is decoded: a payload may hold half a million.
        frames = _POST_FRAMES + packets.count_packets(body)
        if exceeds_rate(session, self._limits, self._clock.monotonic(), frames, len(body)):
            return errors.TOO_MANY_PACKETS
        try:
            for count, packet in enumerate(packets.decode_payload(body), 1):
                message = session.receive(packet)
                handling = None if message is None else self._deliver(session, message)
                if handling is not None:
                    await handling
                if not count % _YIELD_EVERY:
                    # Other tasks have to run in between.
                    await asyncio.sleep(0)
        except MalformedPacket:
            session.fail("malformed_packet")
            return errors.BAD_REQUEST
        return _text_response(b"ok")

    async def _read(self, request: web.Request, limit_bytes: int) -> bytes | HandshakeError:
        """Read the whole body within the time and the limit."""
        if (request.content_length or 0) > limit_bytes:
            return errors.PAYLOAD_TOO_LARGE
        try:
            async with asyncio.timeout(self._body_timeout_seconds):
                await _send_continue(request)
                content = request.content
                return await self._arriving.read(
                    content.readany, limit_bytes, drop=lambda: content.set_exception(BodyDropped())
                )
        except BodyTooLarge:
            return errors.PAYLOAD_TOO_LARGE
        except TimeoutError:
            return errors.BODY_TIMEOUT
        except BodyDropped as error:
            release_frames(error)
            return errors.OVERLOADED
        except (web.RequestPayloadError, ConnectionError) as error:
            # The reader of the body keeps the error, whose traceback holds the reader and all that has arrived.
            release_frames(error)
            return errors.BAD_REQUEST


async def _send_continue(request: web.Request) -> None:
    """Send 100 Continue if the client expects it (RFC 9110 §10.1.1): aiohttp does so for its own routes only."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # No byte of the answer itself has been sent.
        request.writer.output_size = 0


def _ended_response() -> web.Response:
    """Return the error with which a session ends whose client is to reconnect, as if its sid had become unknown.

    Not 503: proxies send a request again for that, and count it as a failure of this replica.
    """
    error = errors.UNKNOWN_SID
    answer = web.Response(
        status=error.status, text=error.body, content_type="application/json", headers=_NO_STORE
    )
    # Over a kept connection the client would reach this replica again.
    answer.force_close()
    return answer


def _text_response(body: bytes) -> web.Response:
    return web.Response(
        status=HTTPStatus.OK,
        body=body if len(body) < LARGE_BODY_BYTES else LargeBody(body, is_shared=False),
        content_type="text/plain",
        charset="UTF-8",
        headers=_NO_STORE,
    )
