"""A client brings a newer token, so that its connection outlives the one it came with."""

from __future__ import annotations

from collections.abc import Callable
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

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        arriving: Arriving,
        expiring: Expiring,
        refreshed: Callable[[str], None],
    ) -> None:
        """``refreshed`` is told ``refreshed``, or the code of the refusal."""
        self._verifier = verifier
        self._arriving = arriving
        self._expiring = expiring
        self._refreshed = refreshed

    async def refresh(self, connection: Connection, arguments: tuple[object, ...]) -> dict[str, object]:
        """The acknowledgement: ``{ok:true, expiresAt}`` or ``{ok:false, code, message}``; a refusal changes nothing."""
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            return self._refuse("token_malformed", f"{EVENT} takes one token, a string")
        try:
            identity = await self._verifier.verify(arguments[0])
            await self._arriving.refresh(connection, identity)
        except GatewayError as error:
            return self._refuse(error.code, error.message)
        except Exception:
            log.exception("refresh.failed")
            return self._refuse("internal_error", "the gateway failed; its log says why")
        self._expiring.watch(connection)
        self._refreshed("refreshed")
        return {"ok": True, "expiresAt": self._expiring.describe_end(connection)}

    def _refuse(self, code: str, message: str) -> dict[str, object]:
        self._refreshed(code)
        return {"ok": False, "code": code, "message": message}
