"""``sio-gateway token``: tokens for tests. In production the service that logs users in issues them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from gateway.cli.errors import UsageError
from gateway.domain.times import parse_duration

if TYPE_CHECKING:
    from gateway.settings import Settings


class Duration(click.ParamType[float]):
    """A duration such as ``90s``, ``15m``, ``1h`` or ``7d``, converted to seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = parse_duration(str(value))
        if seconds is None or seconds < 1:
            self.fail(
                f"{value!r} is not a duration of at least one second; write 90s, 15m, 1h or 7d", param, ctx
            )
        return seconds


@click.command()
@click.option("--sub", "user", required=True, metavar="USER", help="The user id: the token's claim `sub`.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="A further claim. VALUE is JSON if it is valid JSON, else a string. Repeatable.",
)
@click.option(
    "--ttl",
    type=Duration(),
    default="1h",
    show_default=True,
    help="How long the token is valid: 90s, 15m, 1h, 7d.",
)
def token(user: str, claims: tuple[str, ...], ttl: float) -> None:
    """Print a token that a client can connect with.

    Signs with GATEWAY_JWT_SECRET, the secret of the gateway. Prints only the token on stdout. Exit status 2 without
    this secret.

    \b
    Examples:
      sio-gateway token --sub alice
      sio-gateway token --sub alice --claim orgId=7 --claim 'role=["admin","editor"]' --ttl 8h
    """
    from gateway.settings import load_settings

    settings = load_settings(os.environ, require_keys=False)
    click.echo(signed_token(settings, user, ttl_seconds=ttl, claims=_claims(claims)))


def signed_token(
    settings: Settings, user: str, *, ttl_seconds: float, claims: Mapping[str, object] | None = None
) -> str:
    """Return a token that a gateway with these settings accepts, with the audience and issuer that it requires.

    Raises: UsageError if the user id is invalid or no such token can be signed.
    """
    from gateway.auth.verifier import issue_token
    from gateway.domain.errors import InvalidName
    from gateway.domain.names import check_user

    try:
        check_user(user)
    except InvalidName as error:
        raise UsageError(f"the user id {user!r} is invalid: {error.message}") from None
    allowed = [name for name in settings.jwt_algorithms if name.startswith("HS")]
    if not settings.jwt_secret or not allowed:
        raise UsageError(_missing_secret(settings))
    if ttl_seconds > settings.revocation_seconds:
        raise UsageError(
            f"the gateway rejects tokens that live longer than GATEWAY_REVOCATION_SECONDS "
            f"({settings.revocation_seconds:.0f} seconds)"
        )
    required: dict[str, object] = {}
    if settings.jwt_audience:
        required["aud"] = settings.jwt_audience[0]
    if settings.jwt_issuer:
        required["iss"] = settings.jwt_issuer[0]
    return issue_token(
        secret=settings.jwt_secret[0],
        user=user,
        now=time.time(),
        ttl_seconds=ttl_seconds,
        algorithm=allowed[0],
        claims=required | dict(claims or {}),
    )


def _missing_secret(settings: Settings) -> str:
    if settings.jwt_public_key or settings.jwt_jwks_url:
        return "only public keys are configured, so no token can be signed: get one from the issuer of the tokens"
    if settings.issuers:
        return "GATEWAY_ISSUERS has all keys, so no token can be signed: get one from an issuer of tokens"
    return (
        "GATEWAY_JWT_SECRET is not set, so no token can be signed: set it to the secret of the gateway "
        "(`sio-gateway serve --dev` prints a token, and this command with the secret of its run)"
    )


def _claims(pairs: tuple[str, ...]) -> dict[str, object]:
    claims: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"--claim {pair!r} is not of the form name=value")
        if name == "sub":
            raise UsageError("set the claim sub with --sub")
        claims[name] = _value(text)
    return claims


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
