"""Where a token is looked for: the first place that has one decides, good or bad."""

from __future__ import annotations

from gateway.domain.errors import TokenRefused
from gateway.transport.handshake import Handshake


def find_token(auth: object, handshake: Handshake) -> str:
    """``auth.token`` of the CONNECT packet, else ``Authorization: Bearer``, else the query's ``token``.

    Raises TokenRefused: token_missing, or token_malformed where the place holds something that is no token.
    """
    if isinstance(auth, dict) and auth.get("token") is not None:
        return _text(auth["token"])
    if handshake.authorization is not None:
        scheme, _, token = handshake.authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise TokenRefused(
                "token_malformed", "the Authorization header is not of the form Bearer <token>"
            )
        return _text(token.strip())
    if handshake.query_token is not None:
        return _text(handshake.query_token)
    raise TokenRefused(
        "token_missing", "send a token as auth.token, Authorization: Bearer or the query's token"
    )


def _text(token: object) -> str:
    if not isinstance(token, str) or not token:
        raise TokenRefused("token_malformed", "a token is a non-empty string")
    return token
