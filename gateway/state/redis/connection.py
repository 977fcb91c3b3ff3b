"""How a connection to Redis is opened: all of redis-py that is left once its retries are off.

Trying again until it works: ever more slowly, and without saying the same each time.

Tasks that end together.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Connection, SSLConnection

from gateway.domain.errors import StateMisconfigured
from gateway.domain.redis_url import RedisUrl
from gateway.state.redis.errors import NotExecuted, code_of, error_from_reply, rejection_in

FIRST_BACKOFF_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 1.0


class Backoff:
    """Those since the last one that worked."""

    def __init__(self) -> None:
        self._pause_seconds = FIRST_BACKOFF_SECONDS
        self._reason = ""

    def reset(self) -> None:
        """What fails from now on is something new."""
        self._pause_seconds, self._reason = FIRST_BACKOFF_SECONDS, ""

    def record_failure(self, reason: str) -> bool:
        """One did not work; whether for another reason than the one before, and so worth a line."""
        is_new, self._reason = reason != self._reason, reason
        return is_new

    async def pause(self) -> None:
        """Wait until it is time for the next."""
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, MAX_BACKOFF_SECONDS)


async def run_until_first_exit(**coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all of them, each a task of its name, until the first ends; raise what it raised.

    A task group would do the same, but before Python 3.13 it swallows a cancellation that comes while it ends because
    of an error (cpython#116720), and whoever goes on after errors would then never end.
    """
    tasks = [asyncio.create_task(each, name=f"redis {name}") for name, each in coroutines.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


NO_EVICTION: Final = "noeviction"


@dataclass(frozen=True, slots=True)
class ServerId:
    """Which server, with which data, answers on a connection: another one may know other things."""

    run_id: str
    replication_id: str


class ConnectionFactory:
    """Opens connections to the primary. ``timeout_seconds`` bounds each from the look-up of its name to its first
    answer; reads later wait without a limit, whoever waits for an answer brings one."""

    def __init__(self, url: RedisUrl, *, name: str, timeout_seconds: float) -> None:
        self.url = url
        self._name = name
        self._timeout_seconds = timeout_seconds

    async def connect(self) -> tuple[Connection, ServerId]:
        """A connection to the primary. Raises Unsent, and StateUnusable if that primary may forget what it holds."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                host, port = await self._primary()
                return await self._verify(host, port)
        except TimeoutError as late:
            raise NotExecuted(f"Redis did not answer within {self._timeout_seconds} s") from late

    async def connect_unchecked(self) -> Connection:
        """A connection to whatever is there, for who only looks: nothing is asked of it. Raises as ``open`` does."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._connect(*await self._primary())
        except TimeoutError as late:
            raise NotExecuted(f"Redis did not answer within {self._timeout_seconds} s") from late

    async def query_sentinels(self) -> dict[tuple[str, int], tuple[str, int] | None]:
        """What each Sentinel calls the primary, None from one that does not answer or know it. Empty without any."""
        location, answers = self.url, dict[tuple[str, int], tuple[str, int] | None]()
        for host, port in location.hosts if location.service is not None else ():
            answers[host, port] = None
            with suppress(NotExecuted, StateMisconfigured, TimeoutError):
                async with asyncio.timeout(self._timeout_seconds):
                    answers[host, port] = await self._query_sentinel(host, port, location.service or "")
        return answers

    async def _primary(self) -> tuple[str, int]:
        location = self.url
        if location.service is None:
            return location.hosts[0]
        problem = NotExecuted("no Sentinel answered")
        for host, port in location.hosts:
            try:
                # One that does not answer must not use up the time of the others.
                async with asyncio.timeout(self._timeout_seconds / (len(location.hosts) + 1)):
                    found = await self._query_sentinel(host, port, location.service)
            except (NotExecuted, TimeoutError):
                continue
            if found is not None:
                return found
            problem = NotExecuted(f"no Sentinel knows a primary named {location.service!r}")
        raise problem

    async def _query_sentinel(self, host: str, port: int, service: str) -> tuple[str, int] | None:
        connection = self._make(host, port, self.url.sentinel_options)
        try:
            await _connect(connection)
            answer = await execute(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        finally:
            await connection.disconnect(nowait=True)
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _verify(self, host: str, port: int) -> tuple[Connection, ServerId]:
        connection = await self._connect(host, port)
        try:
            info = parse_info(await execute(connection, "INFO"))
            _check(info)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection, ServerId(info.get("run_id", ""), info.get("master_replid", ""))

    async def _connect(self, host: str, port: int) -> Connection:
        connection = self._make(host, port, {**self.url.options, "client_name": self._name})
        try:
            await _connect(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _make(self, host: str, port: int, options: Mapping[str, Any]) -> Connection:
        kind = SSLConnection if self.url.tls else Connection
        return kind(
            host=host,
            port=port,
            # RESP 2 has channels for itself: what is published comes as plain lists, and nothing else does.
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._timeout_seconds,
            driver_info=None,
            **options,
        )


async def _connect(connection: Connection) -> None:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it without
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise StateMisconfigured(f"Redis lets nobody in with this user and password: {error}") from error
    except (exceptions.ResponseError, exceptions.BusyLoadingError) as error:
        raise error_from_reply(error) from error
    except (exceptions.RedisError, OSError) as error:
        raise NotExecuted(f"Redis cannot be reached: {type(error).__name__}") from error


def pack(*command: str | bytes | int) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub takes tuples of one item
    return packed


def stream_of(connection: Connection) -> asyncio.StreamWriter | None:
    """What it writes to while it is connected, for who sends in the middle of a turn: ``send_packed_command`` must be
    awaited."""
    return connection._writer  # noqa: SLF001  # tests/contract/test_redis_overrides.py looks whether it is there


async def execute(connection: Connection, *command: str) -> Any:
    """Send a command and wait for its answer. Raises Unsent: these commands change nothing."""
    try:
        await connection.send_command(*command, check_health=False)
        return await connection.read_response(
            disable_decoding=True, timeout=math.inf, disconnect_on_error=False
        )
    except (exceptions.RedisError, OSError) as error:
        raise NotExecuted(
            f"Redis did not answer {command[0]} ({code_of(error)})", rejection=rejection_in(error)
        ) from error


def parse_info(answer: bytes) -> dict[str, str]:
    """The lines of INFO that hold something."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _check(info: Mapping[str, str]) -> None:
    if info.get("loading") == "1":
        raise NotExecuted("Redis is loading its data", rejection="LOADING")
    if info.get("role") not in {"master", None}:
        raise NotExecuted(
            "this Redis is a replica and not the primary", not_primary=True, rejection="READONLY"
        )
    policy = info.get("maxmemory_policy", NO_EVICTION)
    if policy != NO_EVICTION:
        raise StateMisconfigured(
            f"Redis evicts keys when its memory is full (maxmemory-policy {policy}), and with them sessions and the"
            f" memory of which requests were used: set maxmemory-policy to {NO_EVICTION}"
        )
