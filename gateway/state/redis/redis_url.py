"""Where Redis is: its address, taken apart. Nothing is looked up or connected to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CERT_REQS: Final = ("required", "optional", "none")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What an address says. ``service`` is the name that Sentinel knows the primary by; None without Sentinel."""

    hosts: tuple[tuple[str, int], ...]
    service: str | None = None
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_redis_url(url: str) -> RedisUrl:
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
    return RedisUrl(
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
