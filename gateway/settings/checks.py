"""Rules between settings, and warnings about them. A rule is skipped if one of its settings already has a problem."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gateway.domain.issuers import find_shared_users
from gateway.domain.webhooks import decode_secret
from gateway.settings import credentials
from gateway.settings.model import PREFIX, Problems, Settings

# First segments of the paths that the process serves itself (docs/reference/rest.md).
_RESERVED_PATHS: Final = (
    "emit", "broadcast", "presence", "disconnect", "revoke", "health", "healthz", "metrics", "openapi.yaml", "dev"
)  # fmt: skip

JWT_KEYS: Final = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
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
    _check_issuers(settings, problems)
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
    if _is_plain(settings.jwt_jwks_url):
        yield SettingsWarning(
            "jwt_jwks_url",
            "is fetched over plain http, so a host on the way can replace the keys and sign tokens of every user",
            "Use https.",
        )
    for issuer in settings.issuers:
        if _is_plain(issuer.jwks_url):
            yield SettingsWarning(
                "issuers",
                f"the key set of {issuer.issuer!r} is fetched over plain http, so a host on the way can replace the"
                " keys and sign tokens of every user of this issuer",
                "Use https.",
                issuer.issuer,
            )


def _is_plain(address: str | None) -> bool:
    url = urlsplit(address or "")
    return url.scheme == "http" and not _is_this_machine(url.hostname or "")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shared_secrets(settings: Settings) -> Iterator[SettingsWarning]:
    """Yield a warning for each secret of a key or a webhook that is also one of another use.

    Two keys with one secret are a problem already.
    """
    owners = {secret.encode(): "signs the tokens of clients" for secret in _token_secrets(settings)}
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


def _token_secrets(settings: Settings) -> Iterator[str]:
    yield from settings.jwt_secret
    for issuer in settings.issuers:
        yield from issuer.secrets


def _shared(name: str, item: str, what: str, other: str) -> SettingsWarning:
    return SettingsWarning(
        name,
        f"{what} also {other}, so a program that knows it for one purpose can do the other too",
        "Use a secret of its own for each purpose: `sio-gateway keygen` makes them.",
        item,
    )


def _check_required_keys(settings: Settings, problems: Problems) -> None:
    if not (has_default_keys(settings) or settings.issuers) and not problems.has_error(*JWT_KEYS, "issuers"):
        problems.add(
            "jwt_secret",
            "is missing, and so are GATEWAY_JWT_PUBLIC_KEY, GATEWAY_JWT_JWKS_URL and GATEWAY_ISSUERS: without one of "
            "them the gateway cannot verify tokens (to try things out, `serve --dev` needs none)",
        )
    if not settings.ingest_keys and not problems.has_error("ingest_keys"):
        problems.add(
            "ingest_keys", "is missing: without a key no backend can push; set it to id:secret,id:secret"
        )


def _check_jwt_keys(settings: Settings, problems: Problems) -> None:
    for number, secret in enumerate(settings.jwt_secret, start=1):
        place = f"secret {number} " if len(settings.jwt_secret) > 1 else ""
        if (problem := credentials.secret_problem(secret)) is not None:
            problems.add("jwt_secret", place + problem)
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


def has_default_keys(settings: Settings) -> bool:
    """Whether there are keys for tokens whose issuer has no entry in ``issuers``."""
    return any(getattr(settings, name) for name in JWT_KEYS)


def default_algorithms(settings: Settings) -> tuple[str, ...]:
    """Return the usual algorithms of the keys of JWT_*."""
    return credentials.usual_algorithms(settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url)


def _check_issuers(settings: Settings, problems: Problems) -> None:
    """Add a problem for each pair of issuers that could speak for one user, and for one that JWT_ISSUER has too."""
    if problems.has_error("issuers"):
        return
    for sentence in find_shared_users(settings.issuers, has_default=has_default_keys(settings)):
        problems.add("issuers", sentence)
    for issuer in settings.issuers:
        if issuer.issuer in settings.jwt_issuer:
            problems.add(
                "jwt_issuer",
                f"names {issuer.issuer!r}, whose tokens only its entry in GATEWAY_ISSUERS verifies: remove one of them",
            )
    owners = dict.fromkeys(settings.jwt_secret, "GATEWAY_JWT_SECRET")
    for issuer in settings.issuers:
        for secret in issuer.secrets:
            other = owners.setdefault(secret, issuer.issuer)
            if other != issuer.issuer:
                problems.add(
                    "issuers",
                    f"the issuer {issuer.issuer!r} has the same secret as {other}: each could sign tokens of the other",
                )


def _check_algorithms(settings: Settings, problems: Problems) -> None:
    if problems.has_error(*JWT_KEYS, "jwt_algorithms") or not has_default_keys(settings):
        return
    usable = credentials.usable_algorithms(
        settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url
    )
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
