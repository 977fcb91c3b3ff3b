"""What the code relies on in redis-py beyond its documentation: an upgrade that changes it fails here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from redis import exceptions
from redis.asyncio import Connection

from gateway.state.redis.connection import pack, send, stream_of
from gateway.state.redis.errors import code_of
from gateway.state.redis.reply_reader import ReplyReader
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, await_until


async def test_connection_reads_answers_to_commands_written_to_its_stream() -> None:
    server = RedisServer()
    connection = Connection(host="127.0.0.1", port=server.port, protocol=2)
    assert stream_of(connection) is None
    await connection.connect()

    stream = stream_of(connection)
    assert isinstance(stream, asyncio.StreamWriter)
    stream.write(pack("ECHO", "through the stream"))
    assert await connection.read_response(disable_decoding=True) == b"through the stream"

    await connection.disconnect()
    server.stop()


def test_write_to_a_connection_that_uvloop_has_closed_is_a_lost_connection() -> None:
    server = RedisServer()

    async def write_after_the_end() -> None:
        connection = Connection(host="127.0.0.1", port=server.port, protocol=2)
        await connection.connect()
        stream = stream_of(connection)
        assert stream is not None
        stream.transport.abort()
        await stream.wait_closed()
        with pytest.raises((exceptions.RedisError, OSError)):
            await send(connection, pack("PING"))
        await connection.disconnect(nowait=True)

    uvloop.run(write_after_the_end())
    server.stop()


def test_connection_whose_replies_are_taken_over_still_writes_and_reports_its_end() -> None:
    server = RedisServer()

    async def take_over() -> None:
        connection = Connection(host="127.0.0.1", port=server.port, protocol=2)
        await connection.connect()
        replies: list[tuple[Any, bool]] = []
        reader = ReplyReader(connection, lambda reader, reply: replies.append((reply, reader.has_more)))
        await send(connection, pack("ECHO", "one") + pack("GET") + pack("ECHO", "x" * 1_000_000))
        await await_until(lambda: len(replies) == 3, "all three are answered")

        (one, more), (error, _), (large, no_more) = replies
        assert (one, more) == (b"one", True)
        assert isinstance(error, exceptions.ResponseError)
        assert code_of(error).startswith("wrong")
        assert (len(large), no_more) == (1_000_000, False)

        # More than the buffers of both sides hold: the writer has to wait until Redis reads on.
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(40):
                await send(connection, pack("ECHO", "y" * 1_000_000))
        await await_until(lambda: len(replies) == 43, "these are answered, too")

        server.kill()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises((exceptions.ConnectionError, OSError)):
                await reader.wait_until_lost()
        await connection.disconnect()

    uvloop.run(take_over())
    server.stop()


def test_reply_that_cannot_be_taken_ends_the_reading() -> None:
    server = RedisServer()

    async def fail() -> None:
        connection = Connection(host="127.0.0.1", port=server.port, protocol=2)
        await connection.connect()
        taken: list[Any] = []

        def take(_reader: ReplyReader, reply: Any) -> None:
            taken.append(reply)
            raise LookupError

        reader = ReplyReader(connection, take)
        await send(connection, pack("PING") + pack("PING"))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises(LookupError):
                await reader.wait_until_lost()
        assert taken == [b"PONG"]
        await connection.disconnect(nowait=True)

    uvloop.run(fail())
    server.stop()


async def test_connection_that_is_closed_cannot_be_taken_over() -> None:
    server = RedisServer()
    connection = Connection(host="127.0.0.1", port=server.port, protocol=2)

    with pytest.raises(exceptions.ConnectionError):
        ReplyReader(connection, lambda _reader, _reply: None)
    server.stop()
