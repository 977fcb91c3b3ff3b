"""Where Redis is, and how a connection to it is opened: all of redis-py that is left once its retries are off."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Connection, SSLConnection

from gateway.domain.errors import StateUnusable
from gateway.state.redis.errors import Unsent, code_of, of_reply

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CERT_REQS: Final = ("required", "optional", "none")
KEEPS_ALL: Final = "noeviction"


@dataclass(frozen=True, slots=True)
class Location:
    """What an address says. ``service`` is the name that Sentinel knows the primary by; None without Sentinel."""

    hosts: tuple[tuple[str, int], ...]
    service: str | None = None
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_location(url: str) -> Location:
    """The parts of ``redis://user:password@host:port/db``, ``rediss://…`` or ``redis+sentinel://host,host/name/db``.

    Raises ValueError with a sentence that does not quote the password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"begins with none of {', '.join(scheme + '://' for scheme in _SCHEMES)}")
    sentinel = parts.scheme.endswith("+sentinel")
    credentials, _, netloc = parts.netloc.rpartition("@")
    hosts = tuple(_host(each, _SENTINEL_PORT if sentinel else _PORT) for each in netloc.split(","))
    if len(hosts) > 1 and not sentinel:
        raise ValueError("names several hosts, which only redis+sentinel:// can do")
    path = [unquote(each) for each in parts.path.split("/")[1:] if each]
    service = path.pop(0) if sentinel and path else None
    if sentinel and service is None:
        raise ValueError(
            "ends without the name of the primary that Sentinel watches (redis+sentinel://host/name)"
        )
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = parts.scheme.startswith("rediss")
    security = _security(query) if tls else {}
    watched = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if query:
        raise ValueError(f"has options that are not known: {', '.join(sorted(query))}")
    return Location(
        hosts,
        service,
        tls,
        {**_credentials(credentials), "db": _database(path), **security},
        {**{name: value for name, value in watched.items() if value}, **security},
    )


def _security(query: dict[str, str]) -> dict[str, Any]:
    """The options of TLS, taken out of the others."""
    found: dict[str, Any] = {name: query.pop(name) for name in _TLS_OPTIONS if name in query}
    if "ssl_check_hostname" in found:
        found["ssl_check_hostname"] = found["ssl_check_hostname"].lower() == "true"
    if found.get("ssl_cert_reqs", _CERT_REQS[0]) not in _CERT_REQS:
        raise ValueError(f"has an ssl_cert_reqs that is none of {', '.join(_CERT_REQS)}")
    return found


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = parts.hostname, parts.port or port
    except ValueError:
        found = None, port
    if not found[0]:
        raise ValueError("names no host, or a port that is no number")
    return found[0], found[1]


def _credentials(text: str) -> dict[str, str]:
    username, _, password = text.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _database(path: list[str]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isdigit():
        raise ValueError("ends in something that is no number of a database")
    return int(path[0])


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server, with which data, answers on a connection: another one may know other things."""

    run_id: str
    replication_id: str


class Server:
    """Opens connections to the primary. ``timeout_seconds`` bounds each from the look-up of its name to its first
    answer; reads later wait without a limit, whoever waits for an answer brings one."""

    def __init__(self, url: str, *, name: str, timeout_seconds: float) -> None:
        self.location = parse_location(url)
        self._name = name
        self._timeout_seconds = timeout_seconds

    async def open(self) -> tuple[Connection, Identity]:
        """A connection to the primary. Raises Unsent, and StateUnusable if that primary may forget what it holds."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                host, port = await self._primary()
                return await self._greet(host, port)
        except TimeoutError as late:
            raise Unsent(f"Redis did not answer within {self._timeout_seconds} s") from late

    async def reach(self) -> Connection:
        """A connection to whatever is there, for who only looks: nothing is asked of it. Raises as ``open`` does."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._connect(*await self._primary())
        except TimeoutError as late:
            raise Unsent(f"Redis did not answer within {self._timeout_seconds} s") from late

    async def ask_sentinels(self) -> dict[tuple[str, int], tuple[str, int] | None]:
        """What each Sentinel calls the primary, None from one that does not answer or know it. Empty without any."""
        location, answers = self.location, dict[tuple[str, int], tuple[str, int] | None]()
        for host, port in location.hosts if location.service is not None else ():
            answers[host, port] = None
            with suppress(Unsent, StateUnusable, TimeoutError):
                async with asyncio.timeout(self._timeout_seconds):
                    answers[host, port] = await self._ask_sentinel(host, port, location.service or "")
        return answers

    async def _primary(self) -> tuple[str, int]:
        location = self.location
        if location.service is None:
            return location.hosts[0]
        problem = Unsent("no Sentinel answered")
        for host, port in location.hosts:
            try:
                # One that does not answer must not use up the time of the others.
                async with asyncio.timeout(self._timeout_seconds / (len(location.hosts) + 1)):
                    found = await self._ask_sentinel(host, port, location.service)
            except (Unsent, TimeoutError):
                continue
            if found is not None:
                return found
            problem = Unsent(f"no Sentinel knows a primary named {location.service!r}")
        raise problem

    async def _ask_sentinel(self, host: str, port: int, service: str) -> tuple[str, int] | None:
        connection = self._make(host, port, self.location.sentinel_options)
        try:
            await _connect(connection)
            answer = await ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        finally:
            await connection.disconnect(nowait=True)
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _greet(self, host: str, port: int) -> tuple[Connection, Identity]:
        connection = await self._connect(host, port)
        try:
            info = parse_info(await ask(connection, "INFO"))
            _check(info)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection, Identity(info.get("run_id", ""), info.get("master_replid", ""))

    async def _connect(self, host: str, port: int) -> Connection:
        connection = self._make(host, port, {**self.location.options, "client_name": self._name})
        try:
            await _connect(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _make(self, host: str, port: int, options: Mapping[str, Any]) -> Connection:
        kind = SSLConnection if self.location.tls else Connection
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
        raise StateUnusable(f"Redis lets nobody in with this user and password: {error}") from error
    except (exceptions.ResponseError, exceptions.BusyLoadingError) as error:
        raise of_reply(error) from error
    except (exceptions.RedisError, OSError) as error:
        raise Unsent(f"Redis cannot be reached: {type(error).__name__}") from error


def pack(*command: str | bytes | int) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub takes tuples of one item
    return packed


def stream_of(connection: Connection) -> asyncio.StreamWriter | None:
    """What it writes to while it is connected, for who sends in the middle of a turn: ``send_packed_command`` must be
    awaited."""
    return connection._writer  # noqa: SLF001  # tests/contract/test_redis_overrides.py looks whether it is there


async def ask(connection: Connection, *command: str) -> Any:
    """Send a command and wait for its answer. Raises Unsent: these commands change nothing."""
    try:
        await connection.send_command(*command, check_health=False)
        return await connection.read_response(
            disable_decoding=True, timeout=math.inf, disconnect_on_error=False
        )
    except (exceptions.RedisError, OSError) as error:
        raise Unsent(f"Redis did not answer {command[0]} ({code_of(error)})") from error


def parse_info(answer: bytes) -> dict[str, str]:
    """The lines of INFO that hold something."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _check(info: Mapping[str, str]) -> None:
    if info.get("loading") == "1":
        raise Unsent("Redis is loading its data")
    if info.get("role") not in {"master", None}:
        raise Unsent("this Redis is a replica and not the primary", moved=True)
    policy = info.get("maxmemory_policy", KEEPS_ALL)
    if policy != KEEPS_ALL:
        raise StateUnusable(
            f"Redis evicts keys when its memory is full (maxmemory-policy {policy}), and with them sessions and the"
            f" memory of which requests were used: set maxmemory-policy to {KEEPS_ALL}"
        )
