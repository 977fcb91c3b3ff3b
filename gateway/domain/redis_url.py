"""The Redis URL: parsed into hosts, credentials, database and TLS options. No name is resolved here.

And the prefix of the names of keys and channels in that database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CERT_REQS: Final = ("required", "optional", "none")


_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
FAMILIES: Final = frozenset({
    "absent", "ack", "acks", "answers", "changed", "conns", "data", "dead_letters", "dead_order", "ids",
    "index", "intent", "kept", "large", "left", "left_of", "list_order", "listed", "members", "nonces",
    "online", "owners", "parked", "parked_at", "presence", "queue", "rate", "replica", "revoked",
    "revoked_token", "room", "room_users", "rooms", "sessions", "sids", "to", "undelivered", "user",
    "user_acks", "volatile", "webhook", "workers",
})  # fmt: skip
"""The words with which the names of many keys begin, behind the prefix and a colon."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed Redis URL. ``repr`` leaves out the options, which hold user names and passwords.

    ``hosts`` are Redis itself, or Sentinels where ``service`` is set: the name under which they watch the primary.
    ``options`` are keyword arguments of redis-py's connections to Redis, ``sentinel_options`` of those to Sentinels.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str | None = None
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def database(self) -> int:
        """The number of the database; 0 without one."""
        return int(self.options.get("db", 0))


def parse_redis_url(url: str) -> RedisUrl:
    """Parse ``redis://user:password@host:port/db``, ``rediss://…`` or ``redis+sentinel://host,host/name/db``.

    Raises:
        ValueError: a sentence that says what is wrong with the URL and quotes no password.
    """
    try:
        parts = urlsplit(url)
        sentinel = parts.scheme.endswith("+sentinel")
        credentials, _, netloc = parts.netloc.rpartition("@")
        hosts = tuple(_host(each, _SENTINEL_PORT if sentinel else _PORT) for each in netloc.split(","))
    except ValueError:  # its text may quote the password
        raise ValueError("names a host or a port that is none") from None
    if (
        parts.scheme not in _SCHEMES
        or not url.isprintable()
        or not all(host and port for host, port in hosts)
    ):
        raise ValueError(
            "is no address of Redis: write it as redis://host:6379, rediss:// or redis+sentinel://"
        )
    path = [unquote(each) for each in parts.path.split("/")[1:] if each]
    service = path.pop(0) if sentinel and path else None
    if sentinel and service is None:
        raise ValueError(
            "lacks the name of the primary that Sentinel watches: redis+sentinel://host,host/name"
        )
    if len(hosts) > 1 and not sentinel:
        raise ValueError("names several hosts, which only redis+sentinel:// can do")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = parts.scheme.startswith("rediss")
    tls_options = _take_tls_options(query) if tls else {}
    sentinel_login = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    _check_login(sentinel_login)
    if query:
        raise ValueError(f"has options that are not known: {', '.join(sorted(query))}")
    return RedisUrl(
        hosts,
        service,
        tls,
        {**_credentials(credentials), "db": _database(path), **tls_options},
        {**{name: value for name, value in sentinel_login.items() if value}, **tls_options},
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    """Return host and port. The host is empty and the port 0 if the text has them so."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", default_port if parts.port is None else parts.port


def _take_tls_options(query: dict[str, str]) -> dict[str, Any]:
    """Remove the TLS options from a query and return them."""
    found: dict[str, Any] = {name: query.pop(name) for name in _TLS_OPTIONS if name in query}
    if "ssl_check_hostname" in found:
        found["ssl_check_hostname"] = found["ssl_check_hostname"].lower() == "true"
    if found.get("ssl_cert_reqs", _CERT_REQS[0]) not in _CERT_REQS:
        raise ValueError(f"has an ssl_cert_reqs that is none of {', '.join(_CERT_REQS)}")
    return found


def _credentials(text: str) -> dict[str, str]:
    username, _, password = text.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    _check_login(given)
    return {name: value for name, value in given.items() if value}


def _check_login(given: Mapping[str, str | None]) -> None:
    if any(_CONTROL.search(value) for value in given.values() if value):
        raise ValueError("has a line break or another control character in its user name or password")


def _database(path: list[str]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isdigit():
        raise ValueError("ends in something that is no number of a database")
    return int(path[0])


def check_prefix(prefix: str) -> str:
    """Return the prefix if it can begin the names of keys.

    Keys of the prefix ``gw:user`` could be keys of users of a gateway with the prefix ``gw``.

    Raises:
        ValueError: a sentence that says what is wrong with it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} cannot begin the names of keys: use 1 to 64 of A-Z a-z 0-9 _ . : -")
    taken = FAMILIES.intersection(prefix.split(":")[1:])
    if taken:
        raise ValueError(
            f"{prefix!r} has the part {min(taken)!r} behind a colon, with which the names of keys of another gateway"
            " begin: choose another word"
        )
    return prefix
