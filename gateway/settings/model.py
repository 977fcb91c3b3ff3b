"""The settings: one typed line each, with its parser, its default and its unit.

``docs/reference/configuration.md`` says what each means and why the default is what it is; a test compares the two.
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

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.names import check_namespace
from gateway.domain.redis_url import RedisUrl
from gateway.settings import jwt, values
from gateway.settings.ingest_keys import ingest_keys

T = TypeVar("T")
_SPEC: Final = "setting"


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """What is known of a setting besides its type. ``default`` is how documentation shows it."""

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
    """A setting whose default is a value; mypy takes it for that value, as with ``dataclasses.field``."""
    what = SettingSpec(parse, shown or as_text(default), unit, secret)
    # Through a factory, because dataclasses refuse a default without a hash, such as a read-only mapping.
    return field(default_factory=lambda: default, repr=not secret, metadata={_SPEC: what})


def as_text(value: object) -> str:
    """A value as it would be written in the environment; empty where nothing is set."""
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
        case IngestKey():
            return value.id
        case _:
            return str(value)


def new_replica_id() -> str:
    """The host name and a random suffix: two replicas on one machine, or one started again, are told apart."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:55] or "replica"
    return f"{host}-{secrets.token_hex(4)}"


_ROOM_CLAIMS: Final[Mapping[str, str]] = MappingProxyType(
    {"orgId": "org:", "org_id": "org:", "tenantId": "tenant:", "tenant_id": "tenant:", "role": "role:"}
)
_words: Final = values.list_of(values.token)
_namespaces: Final = values.at_least_one(values.list_of(lambda raw: check_namespace(values.text(raw))))
_transports: Final = values.at_least_one(values.list_of(values.one_of("polling", "websocket")))
_algorithms: Final = values.list_of(jwt.algorithm)
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the operator may say. Durations are in seconds, sizes in bytes, rates in events per second."""

    host: str = _setting(values.token, "0.0.0.0")  # noqa: S104  # a container is reached from outside
    port: int = _setting(values.integer(0, 65535), 8080)
    ingest_port: int | None = _setting(values.integer(0, 65535), None)
    ingest_path_prefix: str = _setting(values.path_prefix, "")

    jwt_secret: str | None = _setting(values.text, None, secret=True)
    jwt_public_key: str | None = _setting(jwt.public_key, None, secret=True)
    jwt_jwks_url: str | None = _setting(values.web_address, None)
    jwt_algorithms: tuple[str, ...] = _setting(_algorithms, (), shown="follows the key")
    jwt_audience: tuple[str, ...] = _setting(_words, ())
    jwt_issuer: tuple[str, ...] = _setting(_words, ())
    jwt_leeway_seconds: float = _setting(values.seconds_or_zero, 0.0, unit="seconds")
    jwt_require_exp: bool = _setting(values.boolean, True)
    room_claims: Mapping[str, str] = _setting(values.room_claims, _ROOM_CLAIMS)

    ingest_keys: tuple[IngestKey, ...] = _setting(ingest_keys, (), secret=True)

    redis_url: RedisUrl | None = _setting(values.redis_url, None, secret=True)  # noqa: RUF009  # makes a field
    redis_prefix: str = _setting(values.matching("[A-Za-z0-9_.:-]{1,64}"), "sio-gateway")
    lease_seconds: float = _setting(values.seconds, 15.0, unit="seconds")
    subscription_timeout_seconds: float = _setting(values.seconds, 10.0, unit="seconds")
    replica_id: str = field(
        default_factory=new_replica_id,
        metadata={
            _SPEC: SettingSpec(values.matching("[A-Za-z0-9_-]{1,64}"), "host name and a random suffix")
        },
    )
    cors_origins: tuple[str, ...] = _setting(values.origins, ())
    socketio_path: str = _setting(values.socketio_path, "/socket.io/")
    serve_client: bool = _setting(values.boolean, True)
    namespaces: tuple[str, ...] = _setting(_namespaces, ("/",))
    transports: tuple[str, ...] = _setting(_transports, ("polling", "websocket"))
    ping_interval_seconds: float = _setting(values.seconds, 25.0, unit="seconds")
    ping_timeout_seconds: float = _setting(values.seconds, 20.0, unit="seconds")
    connect_timeout_seconds: float = _setting(values.seconds, 45.0, unit="seconds")
    request_timeout_seconds: float = _setting(values.seconds, 10.0, unit="seconds")

    max_body_bytes: int = _setting(values.integer(1024), _MIB, unit="bytes")
    max_frame_bytes: int = _setting(values.integer(1024), 100_000, unit="bytes")
    max_unauthenticated_frame_bytes: int = _setting(values.integer(1024), 32_768, unit="bytes")
    send_buffer_bytes: int = _setting(values.integer(2048), 4 * _MIB, unit="bytes")
    ws_compression: bool = _setting(values.boolean, False)
    ws_compression_threshold_bytes: int = _setting(values.integer(1), 1024, unit="bytes")
    max_connections: int = _setting(values.integer(1), 20_000)
    max_unauthenticated: int = _setting(values.integer(1), 5_000)
    max_connections_per_user: int = _setting(values.integer(1), 100)
    max_rooms_per_connection: int = _setting(values.integer(1), 200)
    connect_rate: float = _setting(values.per_second, 5_000.0, unit="per second")
    connect_rate_per_address: float | None = _setting(values.per_second, None, unit="per second")
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

    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each setting that is not at its default came from; for ``print-env`` and the hints of ``serve --dev``."""


def _known() -> dict[str, SettingSpec]:
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(Settings)
    return {each.name: each.metadata[_SPEC] for each in fields if _SPEC in each.metadata}


KNOWN: Final[Mapping[str, SettingSpec]] = MappingProxyType(_known())
"""Every setting by its name, lower case without prefix, in the order of the documentation."""
FROM_FILES: Final = tuple(name for name, what in KNOWN.items() if what.secret)
"""Those that may also be given as ``…_FILE``."""


def changed_settings(before: Settings, after: Settings) -> frozenset[str]:
    """The names of the settings that are not the same; a name that a replica makes for itself is no setting."""
    made = set() if "replica_id" in after.origins else {"replica_id"}
    return frozenset(name for name in KNOWN.keys() - made if getattr(before, name) != getattr(after, name))
