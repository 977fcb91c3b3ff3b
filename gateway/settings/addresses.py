"""Origins, URLs and paths."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from gateway.settings import values

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*,]+", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
_REDIS_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_DEFAULT_PORTS: Final = (("http://", ":80"), ("https://", ":443"))


def origin(raw: object) -> str:
    """``*`` or what a browser sends as ``Origin`` (RFC 6454 §6.2): scheme, host, and a port that is not the default."""
    value = values.text(raw).lower()
    if value in {"*", "null"}:
        return value
    if "*" in value:
        raise ValueError(
            f"{raw!r}: a part of an origin cannot be a wildcard; list the origins, or use * alone"
        )
    if not _ORIGIN.fullmatch(value):
        raise ValueError(
            f"{raw!r} is no origin: write it as https://app.example.com, without a path or last slash"
        )
    for scheme, port in _DEFAULT_PORTS:
        if value.startswith(scheme) and value.endswith(port):
            raise ValueError(f"{raw!r}: browsers leave out {port}, so write {value.removesuffix(port)}")
    return value


def origins(raw: object) -> tuple[str, ...]:
    """A list of origins; ``*`` stands alone."""
    allowed = values.list_of(origin)(raw)
    if "*" in allowed and len(allowed) > 1:
        raise ValueError("* allows every origin already: give it alone or leave it out")
    return allowed


def network(raw: object) -> str:
    """An address or a network of addresses (RFC 4632 §3.1): ``10.0.0.7``, ``10.0.0.0/8``, ``2001:db8::/32``."""
    value = values.text(raw)
    try:
        parsed = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"{raw!r} is neither an address nor a network: write it as 10.0.0.7 or 10.0.0.0/8"
        ) from None
    if not parsed.prefixlen:
        raise ValueError(f"{raw!r} is every address there is, so anybody could claim any other")
    if "/" in value and str(parsed.network_address) != str(ip_address(value.partition("/")[0])):
        raise ValueError(f"{raw!r} has bits beyond its prefix; did you mean {parsed}?")
    return str(parsed) if "/" in value else str(parsed.network_address)


networks: Final = values.list_of(network)


def web_address(raw: object) -> str:
    """An http or https URL without user name and password."""
    value = values.word(raw)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        parts, usable = urlsplit(""), False
    if not usable:
        raise ValueError("is no URL that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password, which would end up in logs")
    return value


def redis_url(raw: object) -> str:
    """Where Redis is, or what Sentinels know it. No sentence quotes it: it may hold a password."""
    value = values.text(raw)
    try:
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        usable = value.isprintable() and all(urlsplit(f"//{host}").hostname for host in hosts)
        ports = [urlsplit(f"//{host}").port for host in hosts]  # raises for what is no number
    except ValueError:
        raise ValueError("names a host or a port that is none") from None
    if parts.scheme not in _REDIS_SCHEMES or not usable or 0 in ports:
        raise ValueError(
            "is no address of Redis: write it as redis://host:6379, rediss:// or redis+sentinel://"
        )
    sentinel = parts.scheme.endswith("+sentinel")
    if sentinel and not parts.path.strip("/"):
        raise ValueError(
            "lacks the name of the primary that Sentinel watches: redis+sentinel://host,host/name"
        )
    if len(hosts) > 1 and not sentinel:
        raise ValueError("names several hosts, which only redis+sentinel:// can do")
    return value


def path_prefix(raw: object) -> str:
    """``/push``: begins with a slash, does not end with one."""
    value = values.text(raw).rstrip("/")
    if value and not _PATH.fullmatch(value):
        raise ValueError(f"{raw!r} is no path prefix: write it as /push")
    return value


def socketio_path(raw: object) -> str:
    """``/socket.io/``: begins with a slash, and ends with one, which is added where it is missing."""
    value = values.text(raw).rstrip("/")
    if not _PATH.fullmatch(value):
        raise ValueError(f"{raw!r} is no path of its own: write it as /socket.io/")
    return value + "/"
