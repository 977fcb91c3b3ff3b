"""``sio-gateway revoke``."""

from __future__ import annotations

import json

import click

from gateway.cli.http_client import EXIT_STATUSES, find_endpoint, send_request, url_option


@click.command(epilog=EXIT_STATUSES)
@click.argument("jti")
@click.option(
    "--issuer", metavar="ISS", help="The token's claim `iss`, if GATEWAY_ISSUERS has an entry for it."
)
@click.option(
    "--expires-at",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="The token's claim `exp`. Default: the token is remembered for GATEWAY_REVOCATION_SECONDS.",
)
@url_option
def revoke(jti: str, issuer: str | None, expires_at: int | None, url: str | None) -> None:
    """Reject one token and disconnect its clients.

    JTI is the claim `jti` of the token. Prints the response of the gateway as JSON. Signs with GATEWAY_KEY and
    GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS.

    \b
    Example:
      sio-gateway revoke 8f14e45f-ceea-467f-a0e6-1b2c3d4e5f60
    """
    fields: dict[str, object] = {"jti": jti}
    if issuer is not None:
        fields["issuer"] = issuer
    if expires_at is not None:
        fields["expires_at"] = expires_at
    send_request(find_endpoint(url), "POST", "/revoke", json.dumps(fields).encode())
