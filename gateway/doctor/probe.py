"""Asks Redis. Nothing is changed there, and nobody waits for longer than the gateway itself would.

What is kept under the prefix: four questions, whatever there is.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Connection

from gateway.doctor import rights
from gateway.doctor.facts import CONFIGURED, DataFacts, RedisFacts, SentinelFacts, Unreached
from gateway.domain.errors import GatewayError, StateMisconfigured
from gateway.state.redis.codec import Codec, DecodeError
from gateway.state.redis.connection import ConnectionFactory, parse_info
from gateway.state.redis.errors import REPLIES, code_of
from gateway.state.redis.redis_keys import RedisKeys

Execute = Callable[..., Awaitable[Any]]
HEAD_WORDS: Final = 14
"""lua/common.lua"""
_NEWEST: Final = 3


async def read_data_facts(execute: Execute, keys: RedisKeys) -> DataFacts | None:
    """The head of the log, its newest entry, and what living replicas read; None where that is forbidden."""
    head = await execute("GET", keys.named("head"))
    formats = await execute("HGETALL", keys.named("formats"))
    now = await execute("TIME")
    if not isinstance(formats, list) or not isinstance(now, list):
        return None
    living = await execute("ZRANGEBYSCORE", keys.named("leases"), f"({int(now[0]) * 1000}", "+inf")
    if not isinstance(living, list):
        return None
    known = {
        name.decode(errors="replace"): value for name, value in zip(formats[::2], formats[1::2], strict=True)
    }
    names = [name.decode(errors="replace") for name in living]
    return DataFacts(
        head=None if head is None else _is_head(head),
        newest=await _newest(execute, keys, head),
        formats={name: int(known.get(name, b"0")) for name in names if known.get(name, b"0").isdigit()},
    )


def _is_head(head: Any) -> bool:
    return isinstance(head, bytes) and len(head.split()) == HEAD_WORDS


async def _newest(execute: Execute, keys: RedisKeys, head: Any) -> bool | None:
    """Whether the newest entry can be read; None where there is none."""
    if not _is_head(head):
        return None
    position = head.split()[_NEWEST]
    found = await execute("XRANGE", keys.named("log"), position, position)
    if not isinstance(found, list) or not found:
        return None
    fields = found[0][1]
    try:
        Codec().decode_entry(dict(zip(fields[::2], fields[1::2], strict=True))[b"r"])
    except (DecodeError, KeyError):
        return False
    return True


ROUND_TRIPS: Final = 100
_LOCKED: Final = ("NOAUTH", "WRONGPASS")


@dataclass(frozen=True, slots=True)
class Rejected:
    """Redis answered with an error; ``code`` is the word that it begins with."""

    code: str


class ConnectionLost(Exception):
    """No answer, or no connection any more."""


class RedisQuery:
    """Asks one after the other. Raises Lost when there is nobody to answer."""

    def __init__(self, connection: Connection, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds

    async def execute(self, *command: str | bytes) -> Any:
        """The answer to a command, or Refused."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._connection.send_command(*command, check_health=False)
                return await self._connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
        except REPLIES as error:
            return Rejected(code_of(error))
        except TimeoutError as late:
            raise ConnectionLost(
                f"it did not answer {command[0]!s} within {self._timeout_seconds:.0f} s"
            ) from late
        except exceptions.InvalidResponse as error:
            raise ConnectionLost("what answers there does not speak the protocol of Redis") from error
        except (exceptions.RedisError, OSError) as error:
            raise ConnectionLost(
                f"the connection was lost ({str(error).rstrip('.') or type(error).__name__})"
            ) from error


async def probe_redis(
    server: ConnectionFactory, *, prefix: str, timeout_seconds: float
) -> RedisFacts | Unreached:
    """All that can be found out."""
    try:
        connection = await server.connect_unchecked()
    except GatewayError as error:
        return Unreached(_reason(error), rejection=isinstance(error, StateMisconfigured))
    query = RedisQuery(connection, timeout_seconds=timeout_seconds)
    try:
        info = await query.execute("INFO")
        if isinstance(info, Rejected) and info.code in _LOCKED:
            return Unreached("it asks for a password", rejection=True)
        return await _gather(query, None if isinstance(info, Rejected) else parse_info(info), prefix)
    except ConnectionLost as lost:
        return Unreached(str(lost))
    finally:
        await connection.disconnect(nowait=True)


async def _gather(query: RedisQuery, info: dict[str, str] | None, prefix: str) -> RedisFacts:
    took, ahead, unsure = await _clock(query)
    return RedisFacts(
        info=info,
        config=await _config(query),
        denied=await _denied(query, prefix),
        round_trips=took,
        skew_seconds=ahead,
        skew_error=unsure,
        data=await read_data_facts(query.execute, RedisKeys(prefix)),
    )


def _reason(error: GatewayError) -> str:
    """What the system said, which tells more than that it did not work. Neither holds what is secret."""
    cause = error.__cause__
    if isinstance(cause, (exceptions.ConnectionError, OSError, *REPLIES)) and not isinstance(
        cause, TimeoutError
    ):
        return str(cause).rstrip(".") or error.message
    return error.message.rstrip(".")


async def _clock(query: RedisQuery) -> tuple[tuple[float, ...], float | None, float]:
    """Seconds that each question took, how far Redis is ahead, and how far that may be wrong.

    TIME is asked rather than PING: it costs the same, and every user of the gateway may do it.
    """
    took: list[float] = []
    ahead, unsure = None, math.inf
    for _ in range(ROUND_TRIPS):
        asked_at, began_at = time.time(), time.perf_counter()
        answer = await query.execute("TIME")
        seconds = time.perf_counter() - began_at
        if isinstance(answer, Rejected):
            return (), None, 0.0
        took.append(seconds)
        if seconds / 2 < unsure:  # the quickest answer tells the time best
            unsure = seconds / 2
            ahead = int(answer[0]) + int(answer[1]) / 1e6 - (asked_at + unsure)
    return tuple(took), ahead, unsure


async def _config(query: RedisQuery) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in CONFIGURED:
        answer = await query.execute("CONFIG", "GET", name)
        if isinstance(answer, list) and len(answer) == 2:
            found[name] = answer[1].decode(errors="replace")
    return found


async def _denied(query: RedisQuery, prefix: str) -> tuple[str, ...] | None:
    answer = await query.execute("EVAL", rights.SCRIPT, "0", rights.acl_query(prefix))
    if isinstance(answer, Rejected):
        return ("eval",) if answer.code == "NOPERM" else None
    return tuple(name.decode() for name in answer)


async def probe_sentinels(server: ConnectionFactory) -> SentinelFacts | None:
    """What the Sentinels say; None where there are none."""
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
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def target_address(server: ConnectionFactory) -> str:
    """The address as people write it, without user and password."""
    location = server.url
    hosts = ",".join(map(_address_text, location.hosts))
    return hosts if location.service is None else f"{location.service} of {hosts}"
