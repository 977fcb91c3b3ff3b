"""A client brings a newer token, so that its connection outlives the one it came with."""

from __future__ import annotations

from typing import Protocol

import structlog

from gateway.domain.errors import GatewayError
from gateway.domain.identity import Identity
from gateway.hub import Connection
from gateway.ports import TokenVerifier

log = structlog.get_logger(__name__)

EVENT = "auth:refresh"


class Arriving(Protocol):
    """Swaps the token of a connection; see ``gateway.application.arriving``."""

    async def refresh(self, connection: Connection, identity: Identity) -> None: ...


class Expiring(Protocol):
    """Watches a token; see ``gateway.application.expiring``."""

    def watch(self, connection: Connection) -> None: ...

    def describe_end(self, connection: Connection) -> str | None: ...


class Refreshing:
    """Answers ``auth:refresh``."""

    def __init__(self, *, verifier: TokenVerifier, arriving: Arriving, expiring: Expiring) -> None:
        self._verifier = verifier
        self._arriving = arriving
        self._expiring = expiring

    async def refresh(self, connection: Connection, arguments: tuple[object, ...]) -> dict[str, object]:
        """The acknowledgement: ``{ok:true, expiresAt}`` or ``{ok:false, code, message}``; a refusal changes nothing."""
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            return {"ok": False, "code": "token_malformed", "message": f"{EVENT} takes one token, a string"}
        try:
            identity = await self._verifier.verify(arguments[0])
            await self._arriving.refresh(connection, identity)
        except GatewayError as error:
            return {"ok": False, "code": error.code, "message": error.message}
        except Exception:
            log.exception("refresh.failed")
            return {"ok": False, "code": "internal_error", "message": "the gateway failed; its log says why"}
        self._expiring.watch(connection)
        return {"ok": True, "expiresAt": self._expiring.describe_end(connection)}
