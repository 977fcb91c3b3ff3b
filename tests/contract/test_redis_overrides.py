"""What is relied upon of redis-py beyond its documentation; this fails on an upgrade that moves any of it."""

from __future__ import annotations

import asyncio

from redis.asyncio import Connection

from gateway.state.redis.connection import pack, stream_of
from tests.support.redis_server import RedisServer


async def test_a_connection_writes_to_a_stream_of_asyncio_and_reads_the_answers_to_what_others_write_there() -> (
    None
):
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
