"""Rules between settings, and warnings about them. A rule is skipped if one of its settings already has a problem."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gateway.domain.ingest_keys import MIN_SECRET_BYTES
from gateway.domain.webhooks import decode_secret
from gateway.settings import credentials
from gateway.settings.model import PREFIX, Problems, Settings

# First segments of the paths that the process serves itself (docs/reference/rest.md).
_RESERVED_PATHS: Final = (
    "emit", "broadcast", "presence", "disconnect", "revoke", "health", "healthz", "metrics", "openapi.yaml", "dev"
)  # fmt: skip

MIN_LEASE_SECONDS: Final = 5
MIN_SUBSCRIPTION_TIMEOUT_SECONDS: Final = 2
MAX_SHARED_BODY_BYTES: Final = 16 * 1024 * 1024
PACKET_BYTES: Final = 1024
"""Bytes of a packet around its token: the namespace, and what a client sends to resume."""


def check(settings: Settings, problems: Problems, *, require_keys: bool) -> None:
    """Add a problem for each contradiction, and with ``require_keys`` for each key without which nothing can start."""
    if require_keys:
        _check_required_keys(settings, problems)
    _check_jwt_keys(settings, problems)
    _check_algorithms(settings, problems)
    _check_token_cookie(settings, problems)
    _check_requests(settings, problems)
    _check_sizes(settings, problems)
    _check_shared_state(settings, problems)
    _check_ports_and_paths(settings, problems)
    _check_webhooks(settings, problems)


class SettingsWarning(NamedTuple):
    """What is unsafe in a setting that works, and what to do. ``item`` is the id of a key or a webhook in it."""

    name: str
    sentence: str
    remedy: str
    item: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name.upper()}: {self.sentence}. {self.remedy}"


def warnings(settings: Settings) -> list[SettingsWarning]:
    """Return what is unsafe in settings that have no problem."""
    return [*_plain_key_set(settings), *_shared_secrets(settings)]


def _plain_key_set(settings: Settings) -> Iterator[SettingsWarning]:
    url = urlsplit(settings.jwt_jwks_url or "")
    if url.scheme == "http" and not _is_this_machine(url.hostname or ""):
        yield SettingsWarning(
            "jwt_jwks_url",
            "is fetched over plain http, so a host on the way can replace the keys and sign tokens of every user",
            "Use https.",
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shared_secrets(settings: Settings) -> Iterator[SettingsWarning]:
    """Yield a warning for each secret of a key or a webhook that is also one of another use.

    Two keys with one secret are a problem already.
    """
    owners = {settings.jwt_secret.encode(): "signs the tokens of clients"} if settings.jwt_secret else {}
    for key in settings.ingest_keys:
        for secret in key.secrets:
            if (other := owners.get(secret.encode())) is not None:
                yield _shared("ingest_keys", key.id, f"a secret of the key {key.id!r}", other)
                break
        owners |= {each.encode(): f"signs the pushes of the key {key.id!r}" for each in key.secrets}
    for webhook in settings.webhooks:
        for secret in webhook.secrets:
            # One program may use the text as it is written, another the bytes that it stands for.
            other = owners.get(decode_secret(secret)) or owners.get(secret.encode())
            if other is not None:
                yield _shared("webhooks", webhook.id, f"a secret of the webhook {webhook.id!r}", other)
                break


def _shared(name: str, item: str, what: str, other: str) -> SettingsWarning:
    return SettingsWarning(
        name,
        f"{what} also {other}, so a program that knows it for one purpose can do the other too",
        "Use a secret of its own for each purpose: `sio-gateway keygen` makes them.",
        item,
    )


def _check_required_keys(settings: Settings, problems: Problems) -> None:
    jwt_keys = (settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url)
    if not any(jwt_keys) and not problems.has_error("jwt_secret", "jwt_public_key", "jwt_jwks_url"):
        problems.add(
            "jwt_secret",
            "is missing, and so are GATEWAY_JWT_PUBLIC_KEY and GATEWAY_JWT_JWKS_URL: without one of them the gateway "
            "cannot verify tokens (to try things out, `serve --dev` needs none)",
        )
    if not settings.ingest_keys and not problems.has_error("ingest_keys"):
        problems.add(
            "ingest_keys", "is missing: without a key no backend can push; set it to id:secret,id:secret"
        )


def _check_jwt_keys(settings: Settings, problems: Problems) -> None:
    secret = settings.jwt_secret
    if secret is not None and len(secret.encode()) < MIN_SECRET_BYTES:
        problems.add(
            "jwt_secret", f"has fewer than {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one"
        )
    elif secret is not None and not credentials.is_secret(secret):
        problems.add("jwt_secret", "is a public key, a certificate or a JSON Web Key, and so not a secret")
    if settings.jwt_public_key is not None and settings.jwt_jwks_url is not None:
        problems.add("jwt_jwks_url", "is set together with GATEWAY_JWT_PUBLIC_KEY: remove one of the two")


def _check_token_cookie(settings: Settings, problems: Problems) -> None:
    """Require a list of origins beside a cookie, which browsers send with the WebSocket handshake of every page."""
    if settings.jwt_cookie is None or problems.has_error("jwt_cookie", "cors_origins"):
        return
    for origin in ("*", "null"):
        if origin in settings.cors_origins:
            problems.add(
                "jwt_cookie",
                f"is set while GATEWAY_CORS_ORIGINS allows {origin}: any web page could connect with the cookie of its "
                "visitor (cross-site WebSocket hijacking); list the origins of your pages",
            )


def default_algorithms(settings: Settings) -> tuple[str, ...]:
    """Return the usual algorithms of the keys: HS256, the one of the public key's type, those of identity providers."""
    algorithms: list[str] = []
    if settings.jwt_secret is not None:
        algorithms.append("HS256")
    if settings.jwt_public_key is not None:
        algorithms.append(credentials.algorithms_for(settings.jwt_public_key)[0])
    if settings.jwt_jwks_url is not None:
        algorithms.extend(credentials.JWKS_DEFAULT)
    return tuple(dict.fromkeys(algorithms))


def _check_algorithms(settings: Settings, problems: Problems) -> None:
    names = ("jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms")
    if problems.has_error(*names) or not any(getattr(settings, name) for name in names[:3]):
        return
    usable: set[str] = set()
    if settings.jwt_secret is not None:
        usable.update(credentials.SYMMETRIC)
    if settings.jwt_public_key is not None:
        usable.update(credentials.algorithms_for(settings.jwt_public_key))
    if settings.jwt_jwks_url is not None:
        usable.update(credentials.ASYMMETRIC)
    for name in settings.jwt_algorithms:
        if name in usable:
            continue
        if name in credentials.SYMMETRIC:
            problems.add("jwt_algorithms", f"{name} needs GATEWAY_JWT_SECRET, which is not set")
        elif settings.jwt_public_key is not None:
            problems.add(
                "jwt_algorithms", f"{name} cannot be verified with the type of key in GATEWAY_JWT_PUBLIC_KEY"
            )
        else:
            problems.add(
                "jwt_algorithms", f"{name} needs GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWT_JWKS_URL; none is set"
            )


def _check_requests(settings: Settings, problems: Problems) -> None:
    if not problems.has_error("keepalive_seconds") and settings.keepalive_seconds < 1:
        problems.add("keepalive_seconds", "must be at least 1: answers announce it in whole seconds")
    if (
        not problems.has_error("max_token_bytes", "max_header_bytes")
        and settings.max_token_bytes >= settings.max_header_bytes
    ):
        problems.add(
            "max_token_bytes",
            f"must be less than GATEWAY_MAX_HEADER_BYTES, which is {settings.max_header_bytes}",
        )
    for name in ("max_unauthenticated_frame_bytes", "max_frame_bytes"):
        largest = getattr(settings, name) - PACKET_BYTES
        if not problems.has_error("max_token_bytes", name) and settings.max_token_bytes > largest:
            problems.add(
                "max_token_bytes",
                f"must be at least {PACKET_BYTES} less than GATEWAY_{name.upper()}, which is {getattr(settings, name)}:"
                " a frame holds the token and what is around it",
            )


def _check_sizes(settings: Settings, problems: Problems) -> None:
    if problems.has_error("max_body_bytes"):
        return
    # A send buffer must hold the largest event beside the one being sent, however long JSON makes its envelope.
    if (
        not problems.has_error("send_buffer_bytes")
        and settings.send_buffer_bytes < 2 * settings.max_body_bytes
    ):
        problems.add(
            "send_buffer_bytes",
            f"must be at least twice GATEWAY_MAX_BODY_BYTES, which is {settings.max_body_bytes}",
        )
    if not problems.has_error("history_bytes") and settings.history_bytes < settings.max_body_bytes:
        problems.add(
            "history_bytes", f"must be at least GATEWAY_MAX_BODY_BYTES, which is {settings.max_body_bytes}"
        )


def _check_shared_state(settings: Settings, problems: Problems) -> None:
    if settings.redis_url is None:
        if settings.redis_wait_replicas and not problems.has_error("redis_url"):
            problems.add(
                "redis_wait_replicas", "needs GATEWAY_REDIS_URL: without Redis there is no replica of it"
            )
        return
    if not problems.has_error("lease_seconds") and settings.lease_seconds < MIN_LEASE_SECONDS:
        problems.add(
            "lease_seconds",
            f"must be at least {MIN_LEASE_SECONDS}: with less, a short pause of Redis would make every replica count "
            "as dead",
        )
    if (
        not problems.has_error("subscription_timeout_seconds")
        and settings.subscription_timeout_seconds < MIN_SUBSCRIPTION_TIMEOUT_SECONDS
    ):
        problems.add("subscription_timeout_seconds", f"must be at least {MIN_SUBSCRIPTION_TIMEOUT_SECONDS}")
    if not problems.has_error("max_body_bytes") and settings.max_body_bytes > MAX_SHARED_BODY_BYTES:
        problems.add(
            "max_body_bytes",
            f"must be at most {MAX_SHARED_BODY_BYTES} with GATEWAY_REDIS_URL: Redis executes each push as one "
            "command, and every other command waits meanwhile",
        )


def _check_ports_and_paths(settings: Settings, problems: Problems) -> None:
    same = settings.ingest_port == settings.port and settings.port != 0
    if same and not problems.has_error("port", "ingest_port"):
        problems.add("ingest_port", "equals GATEWAY_PORT; remove it to serve everything on one port")
    first = settings.socketio_path.strip("/").partition("/")[0]
    if first in _RESERVED_PATHS and not problems.has_error("socketio_path"):
        problems.add("socketio_path", f"/{first} is reserved for another part of the gateway")


def _check_webhooks(settings: Settings, problems: Problems) -> None:
    if problems.has_error("webhooks", "webhook_secrets"):
        return
    secrets = settings.webhook_secrets
    for webhook in settings.webhooks:
        if not webhook.secrets and webhook.id not in secrets:
            problems.add(
                "webhooks",
                f"the webhook {webhook.id!r} has no secret: give it a secret_file, or set GATEWAY_WEBHOOK_SECRETS to "
                f"{webhook.id}:whsec_… (`echo whsec_$(openssl rand -base64 32)` makes one)",
            )
        elif webhook.secrets and webhook.id in secrets:
            problems.add(
                "webhook_secrets", f"the webhook {webhook.id!r} has a secret in GATEWAY_WEBHOOKS too"
            )
    ids = {webhook.id for webhook in settings.webhooks}
    for unknown in secrets.keys() - ids:
        problems.add("webhook_secrets", f"no webhook has the id {unknown!r}")
