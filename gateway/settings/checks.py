"""What must hold between settings. Each check is left out where one of its settings is wrong by itself."""

from __future__ import annotations

from typing import Final

from gateway.domain.ingest_keys import MIN_SECRET_BYTES
from gateway.settings import jwt
from gateway.settings.model import Settings
from gateway.settings.problems import Problems

# First segments of paths that the process answers itself (DESIGN §7).
_TAKEN: Final = (
    "emit", "broadcast", "presence", "disconnect", "health", "metrics", "openapi.yaml", "dev"
)  # fmt: skip

MIN_LEASE_SECONDS: Final = 5
MIN_SUBSCRIPTION_TIMEOUT_SECONDS: Final = 2
MAX_SHARED_BODY_BYTES: Final = 16 * 1024 * 1024


def check(settings: Settings, problems: Problems, *, require_keys: bool) -> None:
    """Add every contradiction, and with ``require_keys`` the lack of what a gateway cannot start without."""
    if require_keys:
        _keys_are_there(settings, problems)
    _jwt_keys(settings, problems)
    _algorithms(settings, problems)
    _sizes(settings, problems)
    _shared_state(settings, problems)
    _ports_and_paths(settings, problems)


def _keys_are_there(settings: Settings, problems: Problems) -> None:
    jwt_keys = (settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url)
    if not any(jwt_keys) and not problems.has_error("jwt_secret", "jwt_public_key", "jwt_jwks_url"):
        problems.add(
            "jwt_secret",
            "is missing, and so are GATEWAY_JWT_PUBLIC_KEY and GATEWAY_JWT_JWKS_URL: "
            "without one of them no client can prove who it is (to try things out, `serve --dev` needs none)",
        )
    if not settings.ingest_keys and not problems.has_error("ingest_keys"):
        problems.add("ingest_keys", "is missing: without a key no backend can push; give id:secret,id:secret")


def _jwt_keys(settings: Settings, problems: Problems) -> None:
    secret = settings.jwt_secret
    if secret is not None and len(secret.encode()) < MIN_SECRET_BYTES:
        problems.add(
            "jwt_secret", f"has fewer than {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one"
        )
    elif secret is not None and not jwt.is_secret(secret):
        problems.add("jwt_secret", "is a public key, a certificate or a JSON Web Key, so it is no secret")
    if settings.jwt_public_key is not None and settings.jwt_jwks_url is not None:
        problems.add("jwt_jwks_url", "is given beside GATEWAY_JWT_PUBLIC_KEY: leave one of the two out")


def default_algorithms(settings: Settings) -> tuple[str, ...]:
    """What the given keys are usually used with: HS256, what the public key is made for, what providers publish."""
    chosen: list[str] = []
    if settings.jwt_secret is not None:
        chosen.append("HS256")
    if settings.jwt_public_key is not None:
        chosen.append(jwt.algorithms_for(settings.jwt_public_key)[0])
    if settings.jwt_jwks_url is not None:
        chosen.extend(jwt.JWKS_DEFAULT)
    return tuple(dict.fromkeys(chosen))


def _algorithms(settings: Settings, problems: Problems) -> None:
    names = ("jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms")
    if problems.has_error(*names) or not any(getattr(settings, name) for name in names[:3]):
        return
    usable: set[str] = set()
    if settings.jwt_secret is not None:
        usable.update(jwt.SYMMETRIC)
    if settings.jwt_public_key is not None:
        usable.update(jwt.algorithms_for(settings.jwt_public_key))
    if settings.jwt_jwks_url is not None:
        usable.update(jwt.ASYMMETRIC)
    for name in settings.jwt_algorithms:
        if name in usable:
            continue
        if name in jwt.SYMMETRIC:
            problems.add("jwt_algorithms", f"{name} needs GATEWAY_JWT_SECRET, which is not set")
        elif settings.jwt_public_key is not None:
            problems.add(
                "jwt_algorithms", f"{name} cannot be checked with the kind of key in GATEWAY_JWT_PUBLIC_KEY"
            )
        else:
            problems.add(
                "jwt_algorithms", f"{name} needs GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWT_JWKS_URL; none is set"
            )


def _sizes(settings: Settings, problems: Problems) -> None:
    if problems.has_error("max_body_bytes"):
        return
    # An outbox must take the largest event beside what it is sending, whatever JSON makes of its envelope.
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


def _shared_state(settings: Settings, problems: Problems) -> None:
    if settings.redis_url is None:
        return
    if not problems.has_error("lease_seconds") and settings.lease_seconds < MIN_LEASE_SECONDS:
        problems.add(
            "lease_seconds",
            f"must be at least {MIN_LEASE_SECONDS}: a shorter pause of Redis would make every replica count as dead",
        )
    if (
        not problems.has_error("subscription_timeout_seconds")
        and settings.subscription_timeout_seconds < MIN_SUBSCRIPTION_TIMEOUT_SECONDS
    ):
        problems.add("subscription_timeout_seconds", f"must be at least {MIN_SUBSCRIPTION_TIMEOUT_SECONDS}")
    if not problems.has_error("max_body_bytes") and settings.max_body_bytes > MAX_SHARED_BODY_BYTES:
        problems.add(
            "max_body_bytes",
            f"must be at most {MAX_SHARED_BODY_BYTES} with GATEWAY_REDIS_URL: Redis takes each push in one piece, "
            "and everybody else waits",
        )


def _ports_and_paths(settings: Settings, problems: Problems) -> None:
    same = settings.ingest_port == settings.port and settings.port != 0
    if same and not problems.has_error("port", "ingest_port"):
        problems.add(
            "ingest_port", "is the same as GATEWAY_PORT; leave it out to serve everything on one port"
        )
    first = settings.socketio_path.strip("/").partition("/")[0]
    if first in _TAKEN and not problems.has_error("socketio_path"):
        problems.add("socketio_path", f"/{first} is taken by another part of the gateway")
