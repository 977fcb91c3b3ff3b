"""Queries to Redis. They change nothing, and each has the timeout of the gateway itself.

The records under the prefix take four queries, whatever their number.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Connection

from gateway.doctor import rights
from gateway.doctor.facts import CONFIG_NAMES, DataFacts, QueueFacts, RedisFacts, SentinelFacts, Unreached
from gateway.domain.errors import GatewayError, StateMisconfigured
from gateway.state.redis.codec import Codec
from gateway.state.redis.connection import ConnectionFactory, address_text, parse_info
from gateway.state.redis.errors import REPLIES, code_of
from gateway.state.redis.records import DecodeError
from gateway.state.redis.redis_keys import RedisKeys

Execute = Callable[..., Awaitable[Any]]
HEAD_WORDS: Final = 14
"""The number of words in the head of the log (lua/common.lua)."""
_NEWEST_WORD: Final = 3
ROUND_TRIPS: Final = 100
_AUTH_ERRORS: Final = ("NOAUTH", "WRONGPASS")


async def read_data_facts(execute: Execute, keys: RedisKeys) -> DataFacts | None:
    """Read the head of the log, its newest entry and the formats of live replicas; None if that is denied."""
    head = await execute("GET", keys.named("head"))
    formats = await execute("HGETALL", keys.named("formats"))
    now = await execute("TIME")
    if not isinstance(formats, list) or not isinstance(now, list):
        return None
    live = await execute("ZRANGEBYSCORE", keys.named("leases"), f"({int(now[0]) * 1000}", "+inf")
    if not isinstance(live, list):
        return None
    by_replica = {
        name.decode(errors="replace"): value for name, value in zip(formats[::2], formats[1::2], strict=True)
    }
    names = [name.decode(errors="replace") for name in live]
    return DataFacts(
        head_readable=None if head is None else _is_head(head),
        newest_readable=await _is_newest_readable(execute, keys, head),
        formats={
            name: int(by_replica.get(name, b"0")) for name in names if by_replica.get(name, b"0").isdigit()
        },
    )


def _is_head(head: Any) -> bool:
    return isinstance(head, bytes) and len(head.split()) == HEAD_WORDS


async def _is_newest_readable(execute: Execute, keys: RedisKeys, head: Any) -> bool | None:
    """Return whether the newest entry can be decoded; None if there is none."""
    if not _is_head(head):
        return None
    position = head.split()[_NEWEST_WORD]
    entries = await execute("XRANGE", keys.named("log"), position, position)
    if not isinstance(entries, list) or not entries:
        return None
    fields = entries[0][1]
    try:
        Codec().decode_entry(dict(zip(fields[::2], fields[1::2], strict=True))[b"r"])
    except (DecodeError, KeyError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Rejected:
    """An error reply of Redis. ``code`` is its first word."""

    code: str


class ConnectionLost(Exception):
    """Redis does not answer, or the connection is lost."""


class RedisQuery:
    """Commands on one connection, one after the other."""

    def __init__(self, connection: Connection, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds

    async def execute(self, *command: str | bytes) -> Any:
        """Return the reply to a command, or Rejected.

        Raises: ConnectionLost.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._connection.send_command(*command, check_health=False)
                return await self._connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
        except REPLIES as error:
            return Rejected(code_of(error))
        except TimeoutError as error:
            raise ConnectionLost(
                f"it did not answer {command[0]!s} within {self._timeout_seconds:.0f} s"
            ) from error
        except exceptions.InvalidResponse as error:
            raise ConnectionLost("the server does not speak the protocol of Redis") from error
        except (exceptions.RedisError, OSError) as error:
            raise ConnectionLost(
                f"the connection was lost ({str(error).rstrip('.') or type(error).__name__})"
            ) from error


async def read_queue_facts(execute: Execute, keys: RedisKeys, webhook: str) -> QueueFacts | None:
    """Read what the queue of a webhook holds, with one query for each partition; None if that is denied.

    The id of an entry in a stream is the time at which it was queued, in microseconds (lua/queues.lua).
    """
    fields = await execute("HGETALL", keys.named("queue", webhook))
    dead_letters = await execute("ZCOUNT", keys.named("dead_order", webhook), "-inf", "+inf")
    now = await execute("TIME")
    if not isinstance(fields, list) or not isinstance(now, list) or not isinstance(dead_letters, int):
        return None
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    age_seconds = 0.0
    for partition in (name.decode() for name in values if name.isdigit()):
        first = await execute(
            "XRANGE", keys.named("webhook", f"{webhook}:{partition}"), "-", "+", "COUNT", "1"
        )
        if not isinstance(first, list):
            return None
        if first:
            queued_at = int(first[0][0].partition(b"-")[0]) / 1e6
            age_seconds = max(age_seconds, int(now[0]) + int(now[1]) / 1e6 - queued_at)
    return QueueFacts(int(values.get(b"entries", 0)), int(values.get(b"bytes", 0)), age_seconds, dead_letters)


async def probe_redis(
    server: ConnectionFactory, *, prefix: str, timeout_seconds: float, webhooks: Sequence[str] = ()
) -> RedisFacts | Unreached:
    """Connect and return every fact that the user may read. ``webhooks`` are those whose queues are read."""
    try:
        connection = await server.connect_unchecked()
    except GatewayError as error:
        return Unreached(error.message.rstrip("."), rejection=isinstance(error, StateMisconfigured))
    query = RedisQuery(connection, timeout_seconds=timeout_seconds)
    try:
        info = await query.execute("INFO")
        if isinstance(info, Rejected) and info.code in _AUTH_ERRORS:
            return Unreached("it requires a password", rejection=True)
        known = None if isinstance(info, Rejected) else parse_info(info)
        return await _query_facts(query, known, RedisKeys(prefix), prefix, webhooks)
    except ConnectionLost as error:
        return Unreached(str(error))
    finally:
        await connection.disconnect(nowait=True)


async def _query_facts(
    query: RedisQuery, info: dict[str, str] | None, keys: RedisKeys, prefix: str, webhooks: Sequence[str]
) -> RedisFacts:
    round_trips, skew, skew_error = await _measure_clock(query)
    queues = {each: await read_queue_facts(query.execute, keys, each) for each in webhooks}
    return RedisFacts(
        info=info,
        config=await _query_config(query),
        denied=await _query_denied(query, prefix),
        round_trips=round_trips,
        skew_seconds=skew,
        skew_error=skew_error,
        data=await read_data_facts(query.execute, keys),
        queues={name: facts for name, facts in queues.items() if facts is not None},
    )


async def _measure_clock(query: RedisQuery) -> tuple[tuple[float, ...], float | None, float]:
    """Return the seconds of each round trip, the skew of the clock of Redis, and the error of the skew.

    The command is TIME rather than PING: it costs the same, and every user of the gateway may execute it.
    """
    round_trips: list[float] = []
    skew, skew_error = None, math.inf
    for _ in range(ROUND_TRIPS):
        sent_at, started_at = time.time(), time.perf_counter()
        reply = await query.execute("TIME")
        seconds = time.perf_counter() - started_at
        if isinstance(reply, Rejected):
            return (), None, 0.0
        round_trips.append(seconds)
        if seconds / 2 < skew_error:  # the fastest reply is the most exact
            skew_error = seconds / 2
            skew = int(reply[0]) + int(reply[1]) / 1e6 - (sent_at + skew_error)
    return tuple(round_trips), skew, skew_error


async def _query_config(query: RedisQuery) -> dict[str, str]:
    config: dict[str, str] = {}
    for name in CONFIG_NAMES:
        reply = await query.execute("CONFIG", "GET", name)
        if isinstance(reply, list) and len(reply) == 2:
            config[name] = reply[1].decode(errors="replace")
    return config


async def _query_denied(query: RedisQuery, prefix: str) -> tuple[str, ...] | None:
    reply = await query.execute("EVAL", rights.SCRIPT, "0", rights.acl_query(prefix))
    if isinstance(reply, Rejected):
        return ("eval",) if reply.code == "NOPERM" else None
    return tuple(name.decode() for name in reply)


async def probe_sentinels(server: ConnectionFactory) -> SentinelFacts | None:
    """Query every Sentinel; None if the URL names no Sentinels."""
    if server.url.service is None:
        return None
    answers = await server.query_sentinels()
    return SentinelFacts(
        {
            _address_text(host): None if primary is None else _address_text(primary)
            for host, primary in answers.items()
        }
    )


def _address_text(address: tuple[str, int]) -> str:
    return address_text(*address)


def target_address(server: ConnectionFactory) -> str:
    """Return the address of the URL as text, without user and password."""
    url = server.url
    hosts = ",".join(map(_address_text, url.hosts))
    return hosts if url.service is None else f"{url.service} of {hosts}"
