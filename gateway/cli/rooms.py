"""``sio-gateway join`` and ``sio-gateway leave``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import (
    EXIT_STATUSES,
    check_idempotency_key,
    find_endpoint,
    send_request,
    url_option,
)

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.argument("rooms", nargs=-1, required=True, metavar="ROOM..."),
    click.option(
        "--user", "users", multiple=True, metavar="USER", help="The connections of USER. Repeatable."
    ),
    click.option(
        "--in",
        "within",
        multiple=True,
        metavar="ROOM",
        help="The connections in this room; a socket id is a room, too. Repeatable.",
    ),
    click.option("--everyone", is_flag=True, help="All connections in the namespace."),
    click.option("--namespace", metavar="PATH", help="The Socket.IO namespace. Default: /"),
    click.option(
        "--except",
        "excluded",
        multiple=True,
        metavar="ROOM",
        help="A room or socket id whose connections are left out. Repeatable.",
    ),
    click.option(
        "--idempotency-key",
        metavar="TEXT",
        help="Repeated requests with the same TEXT take effect once.",
    ),
    url_option,
)


def _with_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(epilog=EXIT_STATUSES)
@_with_options
def join(**options: Any) -> None:
    """Have connections join rooms, on every replica.

    So do those that were lost and are resumed later.

    Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. Prints the JSON response of
    the gateway.

    \b
    Examples:
      sio-gateway join match:9 --user alice --user bob
      sio-gateway join news --everyone --except role:bot
    """
    _change("/join", **options)


@click.command(epilog=EXIT_STATUSES)
@_with_options
def leave(**options: Any) -> None:
    """Have connections leave rooms, on every replica.

    Rooms that a token grants stay.

    Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. Prints the JSON response of
    the gateway.

    \b
    Example:
      sio-gateway leave match:9 --in match:9
    """
    _change("/leave", **options)


def _change(
    path: str,
    *,
    rooms: tuple[str, ...],
    users: tuple[str, ...],
    within: tuple[str, ...],
    everyone: bool,
    namespace: str | None,
    excluded: tuple[str, ...],
    idempotency_key: str | None,
    url: str | None,
) -> None:
    if (everyone and (users or within)) or not (everyone or users or within):
        raise UsageError("name the connections: with --user, --in or both, or with --everyone")
    endpoint = find_endpoint(url)
    check_idempotency_key(idempotency_key)
    fields: dict[str, object] = {"who": "everyone" if everyone else _who(users, within), "rooms": rooms}
    if namespace is not None:
        fields["namespace"] = namespace
    if excluded:
        fields["except"] = excluded
    send_request(endpoint, "POST", path, json.dumps(fields).encode(), idempotency_key)


def _who(users: tuple[str, ...], within: tuple[str, ...]) -> dict[str, object]:
    if not within:
        return {"users": users}
    return {"rooms": [*(f"user:{user}" for user in users), *within]}
