"""``ReplyReader``: passes on the replies of Redis in the step that receives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis import exceptions
from redis.asyncio import Connection

from gateway.state.redis.connection import stream_of

_INCOMPLETE: Final = object()


class ReplyReader(asyncio.Protocol):
    """Takes over an idle connection of redis-py, which has answered everything, as the protocol of its transport.

    redis-py would copy what arrives into a stream and wake a task for each reply. It still writes, and closes the
    connection: its own protocol is notified of everything but data.
    """

    def __init__(self, connection: Connection, receive: Callable[[ReplyReader, Any], None]) -> None:
        """``receive`` gets this reader and each reply; an error reply is an exception. What it raises ends the reading.

        Raises:
            redis.exceptions.ConnectionError: the connection is closed.
        """
        stream = stream_of(connection)
        if stream is None or stream.is_closing():
            raise exceptions.ConnectionError("the connection was closed")
        self._receive = receive
        self._error: Exception | None = None
        self._ended = asyncio.Event()
        self._parser = hiredis.Reader(
            protocolError=exceptions.InvalidResponse,
            replyError=error_of(connection),
            notEnoughData=_INCOMPLETE,
        )
        transport = cast("asyncio.Transport", stream.transport)
        self._former = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(self)

    @property
    def has_more(self) -> bool:
        """Whether more arrived with the reply that is passed on now: further replies, or a part of one."""
        has_data: bool = self._parser.has_data()
        return has_data

    async def wait_until_lost(self) -> None:
        """Wait until the connection ends. Raises: why it did, or what ``receive`` raised."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    def data_received(self, data: bytes) -> None:
        """Pass on the replies that are complete."""
        if self._ended.is_set():
            return
        parser, receive = self._parser, self._receive
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not _INCOMPLETE:
                receive(self, reply)
        except Exception as error:  # noqa: BLE001  # raised where the connection is waited for
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        """End the reading."""
        self._end(error or exceptions.ConnectionError("Connection closed by server."))
        self._former.connection_lost(error)

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._former.pause_writing()

    def resume_writing(self) -> None:
        """Let writers continue."""
        self._former.resume_writing()

    def _end(self, error: Exception) -> None:
        if not self._ended.is_set():
            self._error = error
            self._ended.set()


def error_of(connection: Connection) -> Callable[[str], Exception]:
    """Return what makes the exception of an error reply, as redis-py does."""
    make: Callable[[str], Exception] = connection._parser.parse_error  # noqa: SLF001  # as stream_of
    return make
