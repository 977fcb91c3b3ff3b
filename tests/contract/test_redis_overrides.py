"""What the code relies on in redis-py beyond its documentation: an upgrade that changes it fails here."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from redis import exceptions
from redis.asyncio import Connection

from gateway.state.redis.connection import pack, send, stream_of
from tests.support.redis_server import RedisServer


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
