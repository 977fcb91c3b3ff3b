"""Open connections to Redis: address, Sentinel, TLS, credentials, checks of the server.

redis-py is used for single connections only, and without its retries († its defaults retry 10 times and publish twice
into a frozen Redis). ``Backoff`` spaces attempts to connect; ``run_until_first_exit`` runs the tasks of a connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Connection, SSLConnection

from gateway.domain.errors import GatewayError, StateMisconfigured
from gateway.domain.redis_url import RedisUrl
from gateway.state.redis.errors import REPLIES, NotExecuted, code_of, failure_to_connect, rejection_in

X = TypeVar("X")

FIRST_BACKOFF_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 1.0
_SENTINEL_LOGIN: Final = " (sentinel_password and sentinel_username in the query of GATEWAY_REDIS_URL)"
_PLAIN_SECONDS: Final = 0.2
NO_EVICTION: Final = "noeviction"
"""The only ``maxmemory-policy`` under which Redis keeps sessions and nonces."""


class Backoff:
    """Growing pauses between failed attempts, and whether a failure is worth a log line."""

    def __init__(self) -> None:
        self._pause_seconds = FIRST_BACKOFF_SECONDS
        self._reason = ""

    def reset(self) -> None:
        """Start over after a success: with the first pause, and no reason known."""
        self._pause_seconds, self._reason = FIRST_BACKOFF_SECONDS, ""

    def record_failure(self, reason: str) -> bool:
        """Return whether the reason differs from that of the attempt before, and so is worth a log line."""
        is_new, self._reason = reason != self._reason, reason
        return is_new

    async def pause(self) -> None:
        """Sleep until the next attempt is due; the pause doubles up to MAX_BACKOFF_SECONDS."""
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, MAX_BACKOFF_SECONDS)


async def run_until_first_exit(**coroutines: Coroutine[Any, Any, None]) -> None:
    """Run each coroutine as a task of that name until the first one ends; cancel the others and raise its error.

    A task group would do the same, but before Python 3.13 it swallows a cancellation that arrives while it ends because
    of an error (cpython#116720), and a caller that continues after errors would then never end.
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


@dataclass(frozen=True, slots=True)
class ServerId:
    """The process and the data set of a Redis server. A server with another id may hold other data."""

    run_id: str
    replication_id: str


class ServerClock:
    """The clock of Redis, as milliseconds since 1970 less those of the clock of the loop."""

    offset_ms = 0.0


class ConnectionFactory:
    """Opens connections to the primary.

    ``timeout_seconds`` bounds each attempt, from resolving the name to the first answer. Later reads have no limit of
    their own: each command has a deadline.
    """

    def __init__(self, url: RedisUrl, *, name: str, timeout_seconds: float) -> None:
        self.url = url
        self._name = name
        self._timeout_seconds = timeout_seconds

    async def connect(self) -> tuple[Connection, ServerId]:
        """Open a connection to the primary and check that it can hold the state.

        Raises:
            NotExecuted: no usable primary was reached in time.
            StateMisconfigured: the credentials are wrong, the primary may evict keys, or the server is a Sentinel or a
                node of a Cluster.
        """
        return await self._open(self._verify)

    async def connect_unchecked(self) -> Connection:
        """Open a connection without the checks of ``connect``, for the doctor. Raises the same errors."""
        return await self._open(self._connect)

    async def _open(self, connect: Callable[[str, int], Awaitable[X]]) -> X:
        """Find the primary and connect to it, both within the time of an attempt."""
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(deadline):
                host, port = await self._primary()
        except TimeoutError as late:
            raise NotExecuted(f"no Sentinel answered within {self._timeout_seconds} s") from late
        try:
            async with asyncio.timeout_at(deadline):
                return await connect(host, port)
        except TimeoutError as late:
            server = f"Redis at {address_text(host, port)}"
            raise await self._silence(server, host, port, self._timeout_seconds) from late

    async def _silence(self, server: str, host: str, port: int, seconds: float) -> NotExecuted:
        """Return the error for a server that did not answer: † one without TLS waits for the rest of a handshake."""
        if self.url.tls and await _answers_without_tls(host, port):
            return NotExecuted(
                f"{server} cannot be reached: it does not speak TLS on this port;"
                " without TLS the URL begins with redis, not rediss"
            )
        return NotExecuted(f"{server} did not answer within {seconds:g} s")

    async def query_sentinels(self) -> dict[tuple[str, int], tuple[str, int] | None]:
        """Return the address that each Sentinel gives for the primary, or None; empty without Sentinel.

        None stands for a Sentinel that does not answer or does not know the primary.
        """
        url, answers = self.url, dict[tuple[str, int], tuple[str, int] | None]()
        for host, port in url.hosts if url.service is not None else ():
            answers[host, port] = None
            with suppress(NotExecuted, StateMisconfigured, TimeoutError):
                async with asyncio.timeout(self._timeout_seconds):
                    answers[host, port] = await self._query_sentinel(host, port, url.service or "")
        return answers

    async def _primary(self) -> tuple[str, int]:
        url = self.url
        if url.service is None:
            return url.hosts[0]
        problems: list[GatewayError] = []
        for host, port in url.hosts:
            sentinel = f"the Sentinel at {address_text(host, port)}"
            # A Sentinel that does not answer must not use up the time of the others.
            seconds = self._timeout_seconds / (len(url.hosts) + 1)
            try:
                async with asyncio.timeout(seconds):
                    primary = await self._query_sentinel(host, port, url.service)
            except (NotExecuted, StateMisconfigured) as problem:
                problems.append(problem)
            except TimeoutError:
                problems.append(await self._silence(sentinel, host, port, seconds))
            else:
                if primary is not None:
                    return primary
                problems.append(NotExecuted(f"{sentinel} knows no primary named {url.service!r}"))
        reasons = "; ".join(problem.message for problem in problems)
        if any(isinstance(problem, StateMisconfigured) for problem in problems):
            raise StateMisconfigured(reasons)
        raise NotExecuted(reasons)

    async def _query_sentinel(self, host: str, port: int, service: str) -> tuple[str, int] | None:
        sentinel = f"the Sentinel at {address_text(host, port)}"
        connection = self._make(host, port, self.url.sentinel_options)
        try:
            await _connect(connection, sentinel, tls=self.url.tls, hint=_SENTINEL_LOGIN)
            answer = await execute(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        except NotExecuted as problem:
            if problem.rejection == "NOAUTH":
                raise StateMisconfigured(f"{sentinel} asks for a password{_SENTINEL_LOGIN}") from problem
            if problem.__cause__ is not None and isinstance(problem.__cause__, REPLIES):
                text = str(problem.__cause__).partition(", with args")[0]
                raise NotExecuted(f"{sentinel} rejects the question for the primary: {text}") from problem
            raise
        finally:
            await connection.disconnect(nowait=True)
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _verify(self, host: str, port: int) -> tuple[Connection, ServerId]:
        connection = await self._connect(host, port)
        try:
            info = parse_info(await execute(connection, "INFO"))
            _check(info, f"Redis at {address_text(host, port)}")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection, ServerId(info.get("run_id", ""), info.get("master_replid", ""))

    async def _connect(self, host: str, port: int) -> Connection:
        connection = self._make(host, port, {**self.url.options, "client_name": self._name})
        try:
            named = " (the primary that Sentinel names)" if self.url.service is not None else ""
            await _connect(connection, f"Redis at {address_text(host, port)}{named}", tls=self.url.tls)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _make(self, host: str, port: int, options: Mapping[str, Any]) -> Connection:
        kind = SSLConnection if self.url.tls else Connection
        return kind(
            host=host,
            port=port,
            # With RESP 2 a subscribed connection carries messages of channels and nothing else, as plain lists.
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._timeout_seconds,
            driver_info=None,
            **options,
        )


async def _connect(connection: Connection, server: str, *, tls: bool, hint: str = "") -> None:
    """Connect. ``server`` is how messages name the server, ``hint`` where its password belongs."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it without
    except (exceptions.RedisError, OSError) as error:
        problem = failure_to_connect(error, server, tls=tls)
        if isinstance(problem, StateMisconfigured) and hint:
            problem = StateMisconfigured(problem.message + hint)
        raise problem from error


async def _answers_without_tls(host: str, port: int) -> bool:
    """Return whether a server answers a command without TLS."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PLAIN_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(1) in {b"+", b"-"}
            finally:
                writer.transport.abort()
    return False


def address_text(host: str, port: int) -> str:
    """Return host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def pack(*command: str | bytes | int) -> bytes:
    """Encode a command in the Redis protocol."""
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub takes tuples of one item
    return packed


def stream_of(connection: Connection) -> asyncio.StreamWriter | None:
    """Return the stream that a connection writes to, or None while it is not connected.

    For writing within a turn of the event loop: ``send`` must be awaited.
    """
    return connection._writer  # noqa: SLF001  # tests/contract/test_redis_overrides.py checks that it exists


async def send(connection: Connection, packed: bytes) -> None:
    """Write encoded commands.

    Raises:
        redis.exceptions.RedisError, OSError: The connection is lost. uvloop raises RuntimeError if it has closed the
            socket and not reported that yet.
    """
    try:
        await connection.send_packed_command(packed, check_health=False)
    except RuntimeError as closed:
        raise exceptions.ConnectionError("the connection was closed") from closed


async def execute(connection: Connection, *command: str) -> Any:
    """Send a command that changes nothing, and return its answer.

    Raises:
        NotExecuted: there is no answer, or it is an error.
    """
    try:
        await send(connection, pack(*command))
        return await connection.read_response(
            disable_decoding=True, timeout=math.inf, disconnect_on_error=False
        )
    except (exceptions.RedisError, OSError) as error:
        raise NotExecuted(
            f"Redis did not answer {command[0]} ({code_of(error)})", rejection=rejection_in(error)
        ) from error


def parse_info(answer: bytes) -> dict[str, str]:
    """Return the fields of an INFO answer by name."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _check(info: Mapping[str, str], server: str) -> None:
    mode = info.get("redis_mode", info.get("server_mode"))
    if mode == "sentinel":
        raise StateMisconfigured(
            f"{server} is a Sentinel, which has no data: write the URL as redis+sentinel://host,host/name"
        )
    if mode == "cluster" or info.get("cluster_enabled") == "1":
        raise StateMisconfigured(
            f"{server} belongs to a Cluster, across which the scripts of the gateway do not work: use one primary,"
            " with Sentinel for failover"
        )
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
