"""``auth:refresh``: a client sends a newer token, so that its connection outlives its first token."""

from __future__ import annotations

from typing import Final, Protocol

import structlog

from gateway.domain.errors import SERVER_FAILURES, GatewayError, TokenRejected, release_frames
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.interfaces import TokenVerifier
from gateway.metrics import MetricFactory, one_label
from gateway.socketio_server.connect_handshake import bearer_token

EVENT = "auth:refresh"
RATE_LIMITED: Final = "rate_limited"
REFRESHES: Final = ("refreshed", RATE_LIMITED, *sorted(TokenRejected.CODES), *SERVER_FAILURES)
"""Outcomes of a token refresh."""

log = structlog.get_logger(__name__)


class Connector(Protocol):
    """Replaces the identity of a connection; see ``gateway.services.connect``."""

    async def refresh(self, connection: Connection, identity: Identity) -> None: ...


class TokenExpiry(Protocol):
    """Watches the expiry of tokens; see ``gateway.services.token_expiry``."""

    def watch(self, connection: Connection) -> None: ...

    def expires_at_text(self, connection: Connection) -> str | None: ...


class TokenRefresh:
    """Handles ``auth:refresh``."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        connector: Connector,
        token_expiry: TokenExpiry,
        metrics: MetricFactory,
    ) -> None:
        self._verifier = verifier
        self._connector = connector
        self._token_expiry = token_expiry
        self._refreshes = metrics.counter(
            "token_refreshes",
            "Newer tokens sent on open connections, by outcome.",
            ("outcome",),
            one_label(REFRESHES),
        )

    async def refresh(self, connection: Connection, arguments: tuple[object, ...]) -> dict[str, object]:
        """Return the acknowledgement: ``{ok:true, expiresAt}`` or ``{ok:false, code, message}``.

        A rejected token changes nothing. ``retryAfter`` is added if the same token may be accepted later.
        """
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            return self._rejection("token_malformed", f"{EVENT} takes one token, a string")
        try:
            identity = await self._verifier.verify(bearer_token(arguments[0]))
            await self._connector.refresh(connection, identity)
        except GatewayError as error:
            release_frames(error)
            return self._rejection(error.code, error.message, getattr(error, "retry_after_seconds", None))
        except Exception:
            log.exception("refresh.failed")
            return self._rejection("internal_error", "the gateway failed; its log says why")
        self._token_expiry.watch(connection)
        self._refreshes.count(("refreshed",))
        return {"ok": True, "expiresAt": self._token_expiry.expires_at_text(connection)}

    def reject_rate(self, retry_after_seconds: int) -> dict[str, object]:
        """Return the acknowledgement for a client that sends tokens too often; no token is looked at."""
        return self._rejection(RATE_LIMITED, "too many tokens from this client", retry_after_seconds)

    def _rejection(
        self, code: str, message: str, retry_after_seconds: int | None = None
    ) -> dict[str, object]:
        self._refreshes.count((code,))
        answer: dict[str, object] = {"ok": False, "code": code, "message": message}
        if retry_after_seconds is not None:
            answer["retryAfter"] = retry_after_seconds
        return answer
