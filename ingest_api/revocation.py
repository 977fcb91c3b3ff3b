"""Handle authenticated requests that revoke single tokens."""

from __future__ import annotations

from typing import Any, Final

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from gateway.domain.errors import InvalidName
from gateway.domain.ingest_keys import ADMIN
from gateway.domain.names import MAX_TOKEN_ID_CHARACTERS, check_token_id
from ingest_api.errors import Problem
from ingest_api.idempotency import StoredAnswers
from ingest_api.interfaces import AnswerStore, DedupStore, TokenRevocations
from ingest_api.large_body import BodyReader
from ingest_api.openapi_calls import Operation
from ingest_api.push import check_media_type, read_values
from ingest_api.request import AuthenticatedRequest, Require, Response, Route

MAX_EXPIRES_AT: Final = 253_402_300_799
"""9999-12-31T23:59:59Z. A later date is an error, most often milliseconds instead of seconds."""
MAX_ISSUER_CHARACTERS: Final = 2_000
_NUMBERS: Final = ("expires_at",)


class _Date(fields.Float):
    """Seconds since 1970. marshmallow's own Float also accepts strings and booleans."""

    def _deserialize(self, value: Any, *more: Any, **options: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return float(super()._deserialize(value, *more, **options))


def _check_jti(value: str) -> None:
    try:
        check_token_id(value)
    except InvalidName as error:
        raise ValidationError(f"{error.message[:1].upper()}{error.message[1:]}.") from None


class RevokeSchema(Schema):
    """The token that is revoked."""

    class Meta:
        unknown = RAISE

    jti = fields.String(
        required=True,
        validate=_check_jti,
        metadata={
            "description": "The claim `jti` of the token. A number in the claim is written as a text here.",
            "minLength": 1,
            "maxLength": MAX_TOKEN_ID_CHARACTERS,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
            "examples": ["8f14e45f-ceea-467f-a0e6-1b2c3d4e5f60"],
        },
    )
    issuer = fields.String(
        validate=validate.Length(min=1, max=MAX_ISSUER_CHARACTERS),
        metadata={
            "description": "The `iss` of the token, if an entry of `issuers` in the settings has it. Absent for tokens"
            " that the keys of `JWT_*` verify.",
            "minLength": 1,
            "maxLength": MAX_ISSUER_CHARACTERS,
            "examples": ["https://login.example.com/"],
        },
    )
    expires_at = _Date(
        validate=validate.Range(min=0, max=MAX_EXPIRES_AT),
        metadata={
            "description": "The claim `exp` of the token, in seconds since 1970: the revocation is kept until then."
            " Absent: for `REVOCATION_SECONDS`.",
            "minimum": 0,
            "maximum": MAX_EXPIRES_AT,
            "examples": [1795266000],
        },
    )


class RevokeAnswer(Schema):
    """The token is revoked."""

    disconnected = fields.Integer(
        required=True,
        metadata={"description": "Connections that were closed.", "minimum": 0, "examples": [1]},
    )
    exact = fields.Boolean(
        metadata={
            "description": "Present, and false, only if a replica did not reply: it may close further connections.",
            "const": False,
        }
    )


class RevocationHandlers:
    """The call that revokes a token."""

    def __init__(self, *, revocations: TokenRevocations, answers: AnswerStore, dedup: DedupStore) -> None:
        self._revocations = revocations
        self._stored = StoredAnswers("revoke", answers=answers, dedup=dedup)
        self._schema = RevokeSchema()
        self._bodies = BodyReader()

    def routes(self, require: Require) -> tuple[Route, ...]:
        """Return the routes of these calls."""
        return (Route("POST", "/revoke", require((ADMIN,), self.revoke)),)

    async def revoke(self, authenticated: AuthenticatedRequest) -> Response:
        """Revoke one token, and end the connections that have it."""
        check_media_type(authenticated.request, authenticated.body)
        body = authenticated.body
        values = await self._bodies.read(body, read_values(self._schema, body, numbers=_NUMBERS))
        issuer = values.get("issuer", "")
        self._check_issuer(issuer)

        async def revoke() -> bytes:
            # A second time it revokes the same token, and ends the connections that are left.
            ended = await self._revocations.revoke(
                values["jti"], issuer=issuer, expires_at=values.get("expires_at")
            )
            exact = {} if ended.is_exact else {"exact": False}
            return orjson.dumps({"disconnected": ended.connections} | exact)

        return await self._stored.apply(authenticated, revoke)

    def _check_issuer(self, issuer: str) -> None:
        """Check that tokens of an issuer are accepted at all: otherwise a typing mistake would revoke nothing.

        Raises:
            Problem: They are not (``invalid_body``).
        """
        if issuer in self._revocations.issuers():
            return
        sentence = (
            "Not an issuer in the settings of this gateway."
            if issuer
            else "Missing: the settings of this gateway have issuers and no other key for tokens."
        )
        raise Problem("invalid_body", "the body breaks the rules: issuer", errors={"issuer": [sentence]})


REVOKE: Final = Operation(
    id="revokeToken",
    method="post",
    path="/revoke",
    tag="users",
    summary="Revoke one token",
    description="Rejects the token with this `jti` from now on, on every replica, and closes the connections that have"
    " it. Other tokens of the user stay valid. Scope `admin`.",
    response=RevokeAnswer,
    response_description="The token is revoked. `disconnected` is the sum of what the replicas closed; with"
    " `exact: false` a replica did not reply within two seconds, and closes its connections later.",
    response_examples={"one": {"disconnected": 1}},
    body="Revoke",
    body_examples={
        "logout": {"jti": "8f14e45f-ceea-467f-a0e6-1b2c3d4e5f60", "expires_at": 1795266000},
        "issuer": {"jti": "17", "issuer": "https://login.example.com/"},
    },
)
