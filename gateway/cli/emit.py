"""``sio-gateway emit user|users|room|broadcast``."""

from __future__ import annotations

import json
import sys
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
    user_in_path,
)

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.argument("event"),
    click.argument("data", required=False, default=None),
    click.option("--namespace", metavar="PATH", help="The Socket.IO namespace. Default: /"),
    click.option(
        "--except",
        "excluded",
        multiple=True,
        metavar="ROOM",
        help="A room or socket id that does not get the event. Repeatable.",
    ),
    click.option(
        "--all",
        "all_rooms",
        multiple=True,
        metavar="ROOM",
        help="A room that a client has to be in, too, to get the event. Repeatable.",
    ),
    click.option("--volatile", is_flag=True, help="Skip clients that are not ready to receive it."),
    click.option("--timestamp", is_flag=True, help="Let the gateway add the time to DATA as `timestamp`."),
    click.option(
        "--idempotency-key",
        metavar="TEXT",
        help="Repeated requests with the same TEXT deliver the event once.",
    ),
    url_option,
)


def _with_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(epilog=EXIT_STATUSES)
def emit() -> None:
    """Push one event to connected clients.

    DATA is JSON, so a string needs its own quotes ('"hello"'). With - it is read from stdin; without DATA the event has
    no argument. Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. Prints the JSON
    response of the gateway.

    \b
    Examples:
      sio-gateway emit user alice notification:new '{"title":"hi"}'
      sio-gateway emit users alice,bob report:ready '{"id":12}'
      sio-gateway emit room org:7 --all role:admin report:ready '{"id":12}'
      sio-gateway emit broadcast maintenance '"in five minutes"'
    """


@emit.command(epilog=EXIT_STATUSES)
@click.argument("user")
@_with_options
def user(user: str, **options: Any) -> None:
    """Push EVENT with DATA to every connection of USER.

    \b
    Examples:
      sio-gateway emit user alice notification:new '{"title":"hi"}'
      date +'{"now":"%T"}' | sio-gateway emit user alice tick -
    """
    _emit("/emit/user/" + user_in_path(user), {}, **options)


@emit.command(epilog=EXIT_STATUSES)
@click.argument("users", metavar="USER[,USER]...")
@click.option(
    "--also",
    multiple=True,
    metavar="USER",
    help="A further user. The id may contain commas. Repeatable.",
)
@_with_options
def users(users: str, also: tuple[str, ...], **options: Any) -> None:
    """Push EVENT with DATA to every connection of several USERs, and print the connections of each.

    \b
    Examples:
      sio-gateway emit users alice,bob report:ready '{"id":12}'
      sio-gateway emit users alice --also 'Miller, Bob' report:ready '{"id":12}'
    """
    _emit("/emit/users", {"users": [*filter(None, users.split(",")), *also]}, **options)


@emit.command(epilog=EXIT_STATUSES)
@click.argument("room")
@click.option(
    "--also",
    multiple=True,
    metavar="ROOM",
    help="A further room. A connection in several rooms gets the event once. Repeatable.",
)
@_with_options
def room(room: str, also: tuple[str, ...], **options: Any) -> None:
    """Push EVENT with DATA to every connection in ROOM.

    \b
    Examples:
      sio-gateway emit room org:7 report:ready '{"id":12}'
      sio-gateway emit room org:7 --also role:admin report:ready '{"id":12}' --except user:alice
    """
    _emit("/emit/room", {"rooms": [room, *also]} if also else {"room": room}, **options)


@emit.command(epilog=EXIT_STATUSES)
@_with_options
def broadcast(**options: Any) -> None:
    """Push EVENT with DATA to every connection in the namespace.

    \b
    Example:
      sio-gateway emit broadcast maintenance '{"minutes":5}'
    """
    _emit("/broadcast", {}, **options)


def _emit(
    path: str,
    target: dict[str, object],
    *,
    event: str,
    data: str | None,
    namespace: str | None,
    excluded: tuple[str, ...],
    all_rooms: tuple[str, ...],
    volatile: bool,
    timestamp: bool,
    idempotency_key: str | None,
    url: str | None,
) -> None:
    endpoint = find_endpoint(url)
    check_idempotency_key(idempotency_key)
    fields = {**target, "event": event}
    if namespace is not None:
        fields["namespace"] = namespace
    if excluded:
        fields["except"] = list(excluded)
    if all_rooms:
        fields["all"] = list(all_rooms)
    fields |= {name: True for name, on in (("volatile", volatile), ("timestamp", timestamp)) if on}
    send_request(endpoint, "POST", path, _body(fields, data), idempotency_key)


def _body(fields: dict[str, object], data: str | None) -> bytes:
    """Return the request body. The data is included exactly as it was written."""
    envelope = json.dumps(fields)
    if data is None:
        return envelope.encode()
    text = sys.stdin.read() if data == "-" else data
    try:
        json.loads(text, parse_constant=_reject_constant)
        return f'{envelope[:-1]}, "data": {text.strip()}}}'.encode()
    except UnicodeEncodeError:
        raise UsageError("the data is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the data is not JSON ({error}); a string needs its own quotes: '\"hello\"'"
        ) from None


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
