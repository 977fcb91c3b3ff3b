"""The settings: a line for each, with its type, parser, default and unit; and the error that lists every problem.

``docs/reference/configuration.md`` explains each setting and its default; a test compares the page with this module.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.issuers import TokenIssuer
from gateway.domain.names import check_namespace
from gateway.domain.redis_url import RedisUrl, check_prefix
from gateway.domain.webhooks import Webhook
from gateway.settings import credentials, values
from gateway.settings import webhooks as webhook_parsers
from gateway.settings.issuers import issuers as parse_issuers

T = TypeVar("T")
PREFIX: Final = "GATEWAY_"
_SPEC: Final = "spec"
_MIB: Final = 1024 * 1024
_ROOM_CLAIMS: Final[Mapping[str, str]] = MappingProxyType(
    {"orgId": "org:", "org_id": "org:", "tenantId": "tenant:", "tenant_id": "tenant:", "role": "role:"}
)
_tokens: Final = values.list_of(values.token)
_namespaces: Final = values.at_least_one(values.list_of(lambda raw: check_namespace(values.text(raw))))
_transports: Final = values.at_least_one(values.list_of(values.one_of("polling", "websocket")))
_algorithms: Final = values.list_of(credentials.algorithm)


class SettingsError(Exception):
    """The settings cannot be used.

    ``problems`` holds a sentence for each reason, with the full name of its setting in front. ``log_format`` is the
    setting of that name, for the caller that logs the problems.
    """

    def __init__(self, problems: list[str], *, log_format: str = "auto") -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        self.summary = f"{count} with the settings"
        super().__init__(f"{self.summary} (docs/reference/configuration.md lists them all):{lines}")
        self.problems = problems
        self.log_format = log_format


class Problems:
    """The problems found so far: sentences, and the names of the settings that have one."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._names: set[str] = set()

    def add(self, name: str, sentence: str, *, where: str | None = None) -> None:
        """Add a sentence about ``name``, in lower case without prefix. ``where`` is the file that it was read from."""
        self._names.add(name)
        source = f" (in {where})" if where else ""
        self.sentences.append(f"{PREFIX}{name.upper()}: {sentence}{source}")

    def mark(self, name: str) -> None:
        """Record that a setting is wrong although its sentence names another setting."""
        self._names.add(name)

    def has_error(self, *names: str) -> bool:
        """Return whether one of the settings has a problem, so that a comparison with it would mislead."""
        return not self._names.isdisjoint(names)

    def raise_any(self, *, log_format: str) -> None:
        """Raise SettingsError if there is a problem."""
        if self.sentences:
            raise SettingsError(self.sentences, log_format=log_format)


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """The properties of a setting besides its type. ``default`` is the text that the documentation shows."""

    parse: Callable[[object], object]
    default: str
    unit: str = ""
    secret: bool = False


def _setting(
    parse: Callable[[object], T],
    default: T,
    *,
    shown: str | None = None,
    unit: str = "",
    secret: bool = False,
) -> T:
    """Return the field of a setting. Its type for mypy is that of the default, as with ``dataclasses.field``."""
    spec = SettingSpec(parse, shown or as_text(default), unit, secret)
    # A factory, because dataclasses reject a default without a hash, such as a read-only mapping.
    return field(default_factory=lambda: default, repr=not secret, metadata={_SPEC: spec})


def as_text(value: object) -> str:
    """Return a value as the environment has it; empty for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:f}".rstrip("0").rstrip(".")
        case tuple():
            return ",".join(as_text(item) for item in value)
        case Mapping():
            return ",".join(f"{claim}={prefix}" for claim, prefix in value.items())
        case IngestKey() | Webhook():
            return value.id
        case TokenIssuer():
            return value.issuer
        case _:
            return str(value)


def new_replica_id() -> str:
    """Return the host name with a random suffix, which differs between replicas of one machine and between restarts."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:55] or "replica"
    return f"{host}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the operator. Durations are in seconds, sizes in bytes, rates in events per second."""

    host: str = _setting(values.token, "0.0.0.0")  # noqa: S104  # a container is reached from outside
    port: int = _setting(values.integer(0, 65535), 8080)
    ingest_port: int | None = _setting(values.integer(0, 65535), None)
    ingest_path_prefix: str = _setting(values.path_prefix, "")

    jwt_secret: tuple[str, ...] = _setting(credentials.jwt_secrets, (), secret=True)
    jwt_public_key: str | None = _setting(credentials.public_key, None, secret=True)
    jwt_jwks_url: str | None = _setting(values.web_address, None)
    jwt_algorithms: tuple[str, ...] = _setting(_algorithms, (), shown="follows the key")
    jwt_audience: tuple[str, ...] = _setting(_tokens, ())
    jwt_issuer: tuple[str, ...] = _setting(_tokens, ())
    jwt_leeway_seconds: float = _setting(values.seconds_or_zero, 0.0, unit="seconds")
    jwt_require_exp: bool = _setting(values.boolean, True)
    jwt_cookie: str | None = _setting(values.matching("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"), None)
    room_claims: Mapping[str, str] = _setting(values.room_claims, _ROOM_CLAIMS)
    issuers: tuple[TokenIssuer, ...] = _setting(parse_issuers, (), secret=True)

    ingest_keys: tuple[IngestKey, ...] = _setting(credentials.ingest_keys, (), secret=True)
    webhooks: tuple[Webhook, ...] = _setting(webhook_parsers.webhooks, (), secret=True)
    webhook_secrets: Mapping[str, tuple[str, ...]] = _setting(
        webhook_parsers.webhook_secrets, MappingProxyType({}), secret=True
    )

    redis_url: RedisUrl | None = _setting(credentials.redis_url, None, secret=True)  # noqa: RUF009  # makes a field
    redis_prefix: str = _setting(lambda raw: check_prefix(values.text(raw)), "sio-gateway")
    redis_wait_replicas: int = _setting(values.integer(0, 100), 0)
    lease_seconds: float = _setting(values.seconds, 15.0, unit="seconds")
    subscription_timeout_seconds: float = _setting(values.seconds, 10.0, unit="seconds")
    replica_id: str = field(
        default_factory=new_replica_id,
        metadata={
            _SPEC: SettingSpec(values.matching("[A-Za-z0-9_-]{1,64}"), "host name and a random suffix")
        },
    )
    cors_origins: tuple[str, ...] = _setting(values.origins, ())
    cors_same_host: bool = _setting(values.boolean, True)
    socketio_path: str = _setting(values.socketio_path, "/socket.io/")
    serve_client: bool = _setting(values.boolean, True)
    namespaces: tuple[str, ...] = _setting(_namespaces, ("/",))
    events_file: str | None = _setting(values.text, None)
    transports: tuple[str, ...] = _setting(_transports, ("polling", "websocket"))
    ping_interval_seconds: float = _setting(values.seconds, 25.0, unit="seconds")
    ping_timeout_seconds: float = _setting(values.seconds, 20.0, unit="seconds")
    connect_timeout_seconds: float = _setting(values.seconds, 45.0, unit="seconds")
    request_timeout_seconds: float = _setting(values.seconds, 10.0, unit="seconds")
    keepalive_seconds: float = _setting(values.seconds, 650.0, unit="seconds")

    max_header_bytes: int = _setting(values.integer(4096), 32_768, unit="bytes")
    max_token_bytes: int = _setting(values.integer(256), 16_384, unit="bytes")
    max_body_bytes: int = _setting(values.integer(1024), _MIB, unit="bytes")
    max_frame_bytes: int = _setting(values.integer(1024), 100_000, unit="bytes")
    max_unauthenticated_frame_bytes: int = _setting(values.integer(1024), 32_768, unit="bytes")
    send_buffer_bytes: int = _setting(values.integer(2048), 4 * _MIB, unit="bytes")
    ws_compression: bool = _setting(values.boolean, False)
    ws_compression_threshold_bytes: int = _setting(values.integer(1), 1024, unit="bytes")
    http_compression: bool = _setting(values.boolean, True)
    http_compression_threshold_bytes: int = _setting(values.integer(1), 1024, unit="bytes")
    max_connections: int = _setting(values.integer(1), 20_000)
    max_tcp_connections: int | None = _setting(
        values.integer(16), None, shown="follows MAX_CONNECTIONS and the limit of open files"
    )
    max_unauthenticated: int = _setting(values.integer(1), 5_000)
    max_connections_per_user: int = _setting(values.integer(1), 100)
    max_rooms_per_connection: int = _setting(values.integer(1), 200)
    connect_rate: float = _setting(values.per_second, 5_000.0, unit="per second")
    connect_rate_per_address: float | None = _setting(
        values.per_second_or_zero, None, shown="100, or none for private addresses", unit="per second"
    )
    trusted_proxies: tuple[str, ...] = _setting(values.networks, ())
    message_rate: float = _setting(values.per_second, 50.0, unit="per second")

    recovery_seconds: float = _setting(values.seconds_or_zero, 120.0, unit="seconds")
    history_length: int = _setting(values.integer(1), 100_000, unit="messages")
    history_bytes: int = _setting(values.integer(1024), 64 * _MIB, unit="bytes")
    revocation_seconds: float = _setting(values.seconds, 31_536_000.0, unit="seconds")

    shutdown_delay_seconds: float = _setting(values.seconds_or_zero, 0.0, unit="seconds")
    drain_seconds: float = _setting(values.seconds_or_zero, 10.0, unit="seconds")

    log_level: str = _setting(values.one_of("debug", "info", "warning", "error"), "info")
    log_sample_rate: float = _setting(values.fraction, 1.0)
    log_format: str = _setting(values.one_of("auto", "json", "console"), "auto")

    event_catalogue: EventCatalogue = field(default_factory=EventCatalogue, repr=False)
    """The content of ``events_file``; empty if it is not set, and for commands that only call a gateway."""

    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The source of each setting that is not at its default; for ``print-env`` and the banner of ``serve --dev``."""


def _specs() -> dict[str, SettingSpec]:
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(Settings)
    return {each.name: each.metadata[_SPEC] for each in fields if _SPEC in each.metadata}


KNOWN: Final[Mapping[str, SettingSpec]] = MappingProxyType(_specs())
"""Every setting by its name, in lower case without prefix, in the order of the documentation."""
FROM_FILES: Final = tuple(name for name, spec in KNOWN.items() if spec.secret)
"""The settings that may also be given as ``…_FILE``."""


def changed_settings(before: Settings, after: Settings) -> frozenset[str]:
    """Return the names of the settings that differ. A generated ``replica_id`` does not count.

    ``events_file`` differs when the content of the file does.
    """
    generated = set() if "replica_id" in after.origins else {"replica_id"}
    names = {name for name in KNOWN.keys() - generated if getattr(before, name) != getattr(after, name)}
    if before.event_catalogue != after.event_catalogue:
        names.add("events_file")
    return frozenset(names)
