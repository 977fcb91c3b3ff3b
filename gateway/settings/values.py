"""Parsers from a text (environment) or a YAML value to a number, a token, a list, an origin, a URL, a path …

A parser accepts both and raises ValueError with one sentence for each problem. A sentence may quote the value where
it is not a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urlsplit

from gateway.domain.errors import InvalidName
from gateway.domain.ingest_keys import KEY_ID
from gateway.domain.names import check_room
from gateway.domain.origins import parse_allowed_origin
from gateway.domain.times import parse_duration

X = TypeVar("X")
T = TypeVar("T")
Parser = Callable[[object], T]

# Larger values would be rejected where they are stored or waited for.
_MAX_SECONDS: Final = 1e9
_MAX_INTEGER: Final = 10**15
_INTEGER: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,16})?", re.ASCII)
_MAX_LABEL: Final = 63
"""Characters between two dots of a host name."""
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


def text(raw: object) -> str:
    """Parse a text. YAML numbers and booleans are rejected, because ``1.10`` would become ``1.1``."""
    if not isinstance(raw, str):
        raise ValueError("is not text; in YAML, put it in quotes")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if raw.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark (U+FEFF), which editors do not show: remove it")
    return raw


def check_quotes(value: str) -> None:
    """Check that a text is not wrapped in quotes, as ``docker run --env-file`` passes them on.

    Raises: ValueError.
    """
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        raise ValueError("is in quotes, which count as a part of it: remove them")


def token(raw: object) -> str:
    """Parse a text without spaces and control characters."""
    value = text(raw)
    if not value.isprintable() or " " in value:
        raise ValueError(f"{value!r} contains spaces or control characters")
    return value


def matching(pattern: str) -> Parser[str]:
    """Return a parser of texts that match ``pattern`` as a whole."""
    expression = re.compile(pattern, re.ASCII)

    def parse(raw: object) -> str:
        value = text(raw)
        if not expression.fullmatch(value):
            raise ValueError(f"{value!r} is not of the form {pattern}")
        return value

    return parse


def integer(minimum: int, maximum: int = _MAX_INTEGER) -> Parser[int]:
    """Return a parser of plain integers: no units, no signs, no separators."""

    def parse(raw: object) -> int:
        if isinstance(raw, str) and _INTEGER.fullmatch(raw.strip()):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError(f"{raw!r} is not a plain integer such as {max(minimum, 1)}")
        if not minimum <= raw <= maximum:
            limits = f"from {minimum} to {maximum}" if maximum < _MAX_INTEGER else f"{minimum} or more"
            raise ValueError(f"{raw} is out of range: it must be {limits}")
        return raw

    return parse


def _decimal(raw: object, advice: str) -> float:
    if isinstance(raw, str) and _DECIMAL.fullmatch(raw.strip()):
        raw = float(raw)
    return _bounded(raw, f"a number: {advice}")


def _duration(raw: object, kind: str) -> float:
    parsed = parse_duration(raw.strip()) if isinstance(raw, str) else None
    return _bounded(raw if parsed is None else parsed, kind)


def _bounded(raw: object, kind: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        raise ValueError(f"{raw!r} is not {kind}")
    if raw > _MAX_SECONDS:
        raise ValueError(f"{raw!r} is too large: it must be at most {_MAX_SECONDS:.0f}")
    return float(raw)


def seconds(raw: object) -> float:
    """Parse a duration in seconds, or with a unit: decimals allowed, finite and positive."""
    value = _duration(raw, "a duration such as 25, 0.5, 25s or 2m")
    if value <= 0:
        raise ValueError(f"{raw!r} is out of range: it must be more than 0 seconds")
    return value


def seconds_or_zero(raw: object) -> float:
    """Parse a duration in seconds, or with a unit, for which 0 has a meaning of its own."""
    value = _duration(raw, "a duration such as 120, 0 or 2m")
    if value < 0:
        raise ValueError(f"{raw!r} is out of range: it must be 0 seconds or more")
    return value


def per_second(raw: object) -> float:
    """Parse a rate each second: decimals allowed, finite and positive."""
    value = _decimal(raw, "give a number each second, such as 50 or 0.5")
    if value <= 0:
        raise ValueError(f"{raw!r} is out of range: it must be more than 0 each second")
    return value


def per_second_or_zero(raw: object) -> float:
    """Parse a rate each second, or 0 for none."""
    return (
        0.0
        if _decimal(raw, "give a number each second, such as 50 or 0.5, or 0 for no limit") == 0
        else per_second(raw)
    )


def fraction(raw: object) -> float:
    """Parse a fraction: decimals allowed, from 0 to 1."""
    value = _decimal(raw, "give a fraction from 0 to 1, such as 0.1")
    if not 0 <= value <= 1:
        raise ValueError(f"{raw!r} is out of range: it must be from 0 to 1")
    return value


def boolean(raw: object) -> bool:
    """Parse true or false, also as yes/no, on/off, 1/0."""
    value = str(raw).strip().lower()
    if value in {"true", "yes", "on", "1"}:
        return True
    if value in {"false", "no", "off", "0"}:
        return False
    raise ValueError(f"{raw!r} is neither true nor false")


def one_of(*choices: str) -> Parser[str]:
    """Return a parser of a few words, in any case."""

    def parse(raw: object) -> str:
        value = str(raw).strip().lower()
        if value not in choices:
            raise ValueError(f"{raw!r} is not one of {', '.join(choices)}")
        return value

    return parse


def list_of(item: Parser[str]) -> Parser[tuple[str, ...]]:
    """Return a parser of ``a,b`` or a YAML list. ``item`` parses each item. The order is kept; no item may repeat."""

    def parse(raw: object) -> tuple[str, ...]:
        if isinstance(raw, str):
            check_quotes(raw)
        parts = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
        if not isinstance(parts, list):
            raise ValueError(f"{raw!r} is not a list: separate its items with commas")
        if "" in parts:
            raise ValueError("contains an empty item: remove the extra comma")
        values, sentences = _parse_each(parts, item)
        sentences += [f"{value!r} occurs twice" for value in dict.fromkeys(values) if values.count(value) > 1]
        if sentences:
            raise ValueError(*sentences)
        return tuple(values)

    return parse


def _parse_each(parts: list[object], item: Parser[str]) -> tuple[list[str], list[str]]:
    values: list[str] = []
    sentences: list[str] = []
    for part in parts:
        try:
            values.append(item(part))
        except ValueError as error:
            sentences.extend(str(sentence) for sentence in error.args)
        except InvalidName as error:
            sentences.append(f"{part!r}: {error.message}")
    return values, sentences


def at_least_one(parse_all: Parser[tuple[str, ...]]) -> Parser[tuple[str, ...]]:
    """Return the same parser, which also rejects an empty list."""

    def parse(raw: object) -> tuple[str, ...]:
        values = parse_all(raw)
        if not values:
            raise ValueError("is empty")
        return values

    return parse


def room_claims(raw: object) -> Mapping[str, str]:
    """Parse ``claim=prefix,claim=prefix`` or a YAML mapping from claims of a token to prefixes of rooms."""
    prefixes = raw
    if isinstance(raw, str):
        check_quotes(raw)
        pairs = [part.strip().partition("=") for part in raw.split(",")]
        if not all(claim and prefix for claim, _, prefix in pairs):
            raise ValueError(f"{raw!r} is not of the form claim=prefix,claim=prefix")
        if len({claim for claim, _, _ in pairs}) < len(pairs):
            raise ValueError(f"{raw!r} contains a claim twice")
        prefixes = {claim: prefix for claim, _, prefix in pairs}
    if not isinstance(prefixes, dict):
        raise ValueError("is not a mapping from claims to prefixes of rooms")
    for claim, prefix in prefixes.items():
        try:
            check_room(text(claim) and text(prefix))
        except InvalidName as error:
            raise ValueError(
                f"claim {claim!r}: {prefix!r} is not the beginning of a room name: {error.message}"
            ) from None
    return MappingProxyType(dict(prefixes))


def origin(raw: object) -> str:
    """Parse ``*``, an ``Origin`` of a browser, or ``https://*.example.com``, whose ``*`` stands for one label."""
    value = text(raw)
    return value if value == "*" else parse_allowed_origin(value)


def origins(raw: object) -> tuple[str, ...]:
    """Parse a list of origins. ``*`` must be alone."""
    allowed = list_of(origin)(raw)
    if "*" in allowed and len(allowed) > 1:
        raise ValueError("* already allows every origin: use it alone or remove it")
    return allowed


def network(raw: object) -> str:
    """Parse an address or a network (RFC 4632 §3.1): ``10.0.0.7``, ``10.0.0.0/8``, ``2001:db8::/32``."""
    value = text(raw)
    try:
        parsed = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"{raw!r} is neither an address nor a network: write it as 10.0.0.7 or 10.0.0.0/8"
        ) from None
    if not parsed.prefixlen:
        raise ValueError(f"{raw!r} contains every address, so every client could claim any other address")
    if "/" in value and str(parsed.network_address) != str(ip_address(value.partition("/")[0])):
        raise ValueError(f"{raw!r} has bits beyond its prefix; did you mean {parsed}?")
    return str(parsed) if "/" in value else str(parsed.network_address)


networks: Final = list_of(network)


def web_address(raw: object) -> str:
    """Parse an http or https URL without user name and password."""
    value = token(raw)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # the port is not a number
        parts, usable = urlsplit(""), False
    if not usable:
        raise ValueError("is not a URL that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains a user name or password, which would get into logs")
    return value


def _is_host(text: str) -> bool:
    """Return whether a name may be looked up: the resolver raises for one with an empty part (RFC 1035 §2.3.4)."""
    return all(1 <= len(label) <= _MAX_LABEL for label in text.removesuffix(".").split("."))


def path_prefix(raw: object) -> str:
    """Parse ``/push``: it begins with a slash and does not end with one."""
    value = text(raw).rstrip("/")
    if value and not _PATH.fullmatch(value):
        raise ValueError(f"{raw!r} is not a path prefix: write it as /push")
    return value


def socketio_path(raw: object) -> str:
    """Parse ``/socket.io/``: it begins with a slash. The slash at its end is added if missing."""
    value = text(raw).rstrip("/")
    if not _PATH.fullmatch(value):
        raise ValueError(f"{raw!r} is not a path below /: write it as /socket.io/")
    return value + "/"


def read_items(raw: object, read: Parser[T], *, noun: str, form: str) -> tuple[list[T], list[str]]:
    """Read items separated by commas, or a YAML list; return the valid ones and a sentence for each problem.

    ``noun`` names an item in the sentences, ``form`` what is expected.

    Raises: ValueError if there is no item.
    """
    items: object = raw
    if isinstance(raw, str):
        # Not stripped at their ends, which may be those of secrets.
        items = [part.lstrip(" \t") for part in text(raw).split(",")]
    if not isinstance(items, list) or not items:
        raise ValueError(f"is neither {form}")
    found: list[T] = []
    sentences: list[str] = []
    for number, item in enumerate(items, start=1):
        try:
            found.append(read(item))
        except ValueError as error:
            sentences.extend(f"{noun} {number}: {sentence}" for sentence in error.args)
    return found, sentences


def attempt(sentences: list[str], parse: Callable[[X], T], raw: X, default: T) -> T:
    """Return the parsed value; if it has problems, add a sentence for each and return ``default``."""
    try:
        return parse(raw)
    except ValueError as error:
        sentences.extend(error.args)
        return default


def identifier(raw: object) -> str:
    """Parse the id of an ingest key or a webhook."""
    if not isinstance(raw, str) or not KEY_ID.fullmatch(raw):
        raise ValueError("its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return raw
