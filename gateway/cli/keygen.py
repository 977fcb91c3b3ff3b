"""``sio-gateway keygen``: secrets for the settings."""

from __future__ import annotations

import base64
import secrets
from typing import Final

import click

from gateway.cli.errors import UsageError
from gateway.domain.ingest_keys import KEY_ID

_SECRET_BYTES: Final = 32


@click.command()
@click.option(
    "--key", "keys", multiple=True, metavar="ID", help="Id of an ingest key. Default: backend. Repeatable."
)
@click.option(
    "--webhook", "webhooks", multiple=True, metavar="ID", help="Id of a webhook to sign for. Repeatable."
)
def keygen(keys: tuple[str, ...], webhooks: tuple[str, ...]) -> None:
    """Print new random secrets as settings, one on each line.

    The secret that tokens are signed with, one ingest key for each ID, and one secret for each webhook. Every secret
    has 256 random bits. Nothing is stored: redirect the output to a file that only you can read.

    \b
    Examples:
      sio-gateway keygen
      (umask 077; sio-gateway keygen --key shop --key billing --webhook app > gateway.env)
    """
    ids = keys or ("backend",)
    for each in (*ids, *webhooks):
        if not KEY_ID.fullmatch(each):
            raise UsageError(f"the id {each!r} is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if len(set(ids)) < len(ids):
        raise UsageError("two keys have the same id")
    click.echo(f"GATEWAY_JWT_SECRET={new_secret()}")
    click.echo("GATEWAY_INGEST_KEYS=" + ",".join(f"{each}:{new_secret()}" for each in ids))
    if webhooks:
        signing = (
            f"{each}:whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
            for each in webhooks
        )
        click.echo("GATEWAY_WEBHOOK_SECRETS=" + ",".join(signing))


def new_secret() -> str:
    """Return 256 random bits as text that needs no quotes in a shell."""
    return secrets.token_urlsafe(_SECRET_BYTES)
