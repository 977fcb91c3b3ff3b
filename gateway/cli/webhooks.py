"""``sio-gateway webhooks``: commands for the webhooks of the settings."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from gateway.cli.errors import UsageError


@click.group()
def webhooks() -> None:
    """Check the webhooks that client events are sent to.

    \b
    Example:
      sio-gateway webhooks test app
    """


@webhooks.command("test")
@click.argument("webhook_id", metavar="ID")
def test_webhook(webhook_id: str) -> None:
    """Send `webhook.test` to the webhook ID and print what is wrong with it.

    Reads the same settings as `serve`. Names problems of DNS, connection, certificate, signature, status, form of
    the answer, and time.

    Exit status: 0 if it works, 1 if it does not, 2 if the settings are wrong or have no such webhook.

    \b
    Example:
      GATEWAY_CONFIG=gateway.yaml sio-gateway webhooks test app
    """
    from gateway.doctor import Level
    from gateway.doctor.webhooks import check_webhooks
    from gateway.settings import load_settings

    settings = load_settings(os.environ, require_keys=False)
    chosen = [each for each in settings.webhooks if each.id == webhook_id]
    if not chosen:
        ids = ", ".join(each.id for each in settings.webhooks) or "none"
        raise UsageError(f"GATEWAY_WEBHOOKS has no webhook {webhook_id!r}; configured: {ids}")
    ports = {settings.port, settings.ingest_port or settings.port}
    (finding,) = asyncio.run(check_webhooks(chosen, own_ports=ports))
    click.echo(f"{finding.level}: {finding.description}")
    if finding.remedy:
        click.echo(f"  → {finding.remedy}")
    sys.exit(1 if finding.level is Level.PROBLEM else 0)
