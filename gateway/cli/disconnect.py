"""``sio-gateway disconnect user|room``."""

from __future__ import annotations

import json

import click

from gateway.cli.http_client import EXIT_STATUSES, find_endpoint, send_request, url_option, user_in_path


@click.group(epilog=EXIT_STATUSES)
def disconnect() -> None:
    """Disconnect a user, or the connections in a room.

    Clients do not reconnect by themselves.

    Prints the response of the gateway as JSON. Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of
    GATEWAY_INGEST_KEYS.

    \b
    Examples:
      sio-gateway disconnect user alice --revoke
      sio-gateway disconnect room match:9
    """


_namespace_option = click.option(
    "--namespace", metavar="PATH", help="The Socket.IO namespace. Default: every namespace."
)
_except_option = click.option(
    "--except",
    "excluded",
    multiple=True,
    metavar="SID",
    help="A room or socket id that stays connected. Repeatable.",
)


@disconnect.command(epilog=EXIT_STATUSES)
@click.argument("user")
@_namespace_option
@_except_option
@click.option("--revoke", is_flag=True, help="Reject every token of USER whose `iat` is before now.")
@url_option
def user(user: str, namespace: str | None, excluded: tuple[str, ...], revoke: bool, url: str | None) -> None:
    """Disconnect every connection of USER.

    \b
    Examples:
      sio-gateway disconnect user alice
      sio-gateway disconnect user alice --revoke
    """
    fields: dict[str, object] = {}
    if namespace is not None:
        fields["namespace"] = namespace
    if excluded:
        fields["except"] = list(excluded)
    if revoke:
        fields["revoke"] = True
    path = "/disconnect/user/" + user_in_path(user)
    send_request(find_endpoint(url), "POST", path, json.dumps(fields).encode())


@disconnect.command(epilog=EXIT_STATUSES)
@click.argument("room")
@_namespace_option
@_except_option
@url_option
def room(room: str, namespace: str | None, excluded: tuple[str, ...], url: str | None) -> None:
    """Disconnect every connection in ROOM; a socket id is a room, too.

    \b
    Example:
      sio-gateway disconnect room match:9 --except user:alice
    """
    fields: dict[str, object] = {"room": room}
    if namespace is not None:
        fields["namespace"] = namespace
    if excluded:
        fields["except"] = list(excluded)
    send_request(find_endpoint(url), "POST", "/disconnect/room", json.dumps(fields).encode())
