"""``sio-gateway presence``."""

from __future__ import annotations

import click

from gateway.cli.http_client import EXIT_STATUSES, find_endpoint, send_request, url_option, user_in_path


@click.command(epilog=EXIT_STATUSES)
@click.argument("user")
@url_option
def presence(user: str, url: str | None) -> None:
    """Print whether USER is connected.

    Prints the response of the gateway as JSON: whether USER is online, each connection, and when the last connection
    ended. Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS.

    \b
    Example:
      sio-gateway presence alice
    """
    send_request(find_endpoint(url), "GET", "/presence/" + user_in_path(user))
