"""A client brings a newer token, so that its connection outlives the one it came with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from gateway.domain.errors import GatewayError
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.interfaces import TokenVerifier

log = structlog.get_logger(__name__)

EVENT = "auth:refresh"


class Connector(Protocol):
    """Swaps the token of a connection; see ``gateway.services.connect``."""

    async def refresh(self, connection: Connection, identity: Identity) -> None: ...


class TokenExpiry(Protocol):
    """Watches a token; see ``gateway.services.token_expiry``."""

    def watch(self, connection: Connection) -> None: ...

    def expires_at_text(self, connection: Connection) -> str | None: ...


class TokenRefresh:
    """Answers ``auth:refresh``."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        connector: Connector,
        token_expiry: TokenExpiry,
        refreshed: Callable[[str], None],
    ) -> None:
        """``refreshed`` is told ``refreshed``, or the code of the refusal."""
        self._verifier = verifier
        self._connector = connector
        self._token_expiry = token_expiry
        self._refreshed = refreshed

    async def refresh(self, connection: Connection, arguments: tuple[object, ...]) -> dict[str, object]:
        """The acknowledgement: ``{ok:true, expiresAt}`` or ``{ok:false, code, message}``; a refusal changes nothing."""
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            return self._rejection("token_malformed", f"{EVENT} takes one token, a string")
        try:
            identity = await self._verifier.verify(arguments[0])
            await self._connector.refresh(connection, identity)
        except GatewayError as error:
            return self._rejection(error.code, error.message)
        except Exception:
            log.exception("refresh.failed")
            return self._rejection("internal_error", "the gateway failed; its log says why")
        self._token_expiry.watch(connection)
        self._refreshed("refreshed")
        return {"ok": True, "expiresAt": self._token_expiry.expires_at_text(connection)}

    def _rejection(self, code: str, message: str) -> dict[str, object]:
        self._refreshed(code)
        return {"ok": False, "code": code, "message": message}
