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
from gateway.domain.acks import DEFAULT_ACK_SECONDS, MAX_ACK_SECONDS, MIN_ACK_SECONDS
from gateway.domain.offline_queue import MAX_TTL_SECONDS

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
        "--binary",
        multiple=True,
        metavar="POINTER",
        help="A JSON pointer such as /data/image to a base64 string that clients get as bytes. Repeatable.",
    ),
    click.option(
        "--idempotency-key",
        metavar="TEXT",
        help="Repeated requests with the same TEXT deliver the event once.",
    ),
    url_option,
)
_USER_OPTIONS: Final = (
    click.option(
        "--ttl",
        type=click.IntRange(1, MAX_TTL_SECONDS),
        metavar="SECONDS",
        help="Keep the event for a user who is offline, until it is received.",
    ),
)
_ACK_OPTIONS: Final = (
    click.option(
        "--ack",
        metavar="first|all|N",
        help="Wait for acknowledgements: the first one, that of each client, or N of them.",
    ),
    click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(MIN_ACK_SECONDS, MAX_ACK_SECONDS),
        metavar="SECONDS",
        help=f"With --ack: the longest wait. Default: {DEFAULT_ACK_SECONDS:g}",
    ),
)


def _with_acks(command: F) -> F:
    for option in reversed(_ACK_OPTIONS):
        command = option(command)
    return command


def _with_ttl(command: F) -> F:
    for option in reversed(_USER_OPTIONS):
        command = option(command)
    return command


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
@_with_acks
@_with_ttl
def user(user: str, **options: Any) -> None:
    """Push EVENT with DATA to every connection of USER.

    \b
    Examples:
      sio-gateway emit user alice notification:new '{"title":"hi"}'
      date +'{"now":"%T"}' | sio-gateway emit user alice tick -
      sio-gateway emit user alice call:ring '{"from":"bob"}' --ack first --timeout 20
      sio-gateway emit user alice order:shipped '{"id":12}' --ttl 86400
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
@_with_acks
@_with_ttl
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
@_with_acks
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
    binary: tuple[str, ...],
    idempotency_key: str | None,
    url: str | None,
    ack: str | None = None,
    timeout_seconds: float | None = None,
    ttl: int | None = None,
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
    if ack is not None:
        fields["ack"] = _ack(ack, timeout_seconds)
    elif timeout_seconds is not None:
        raise UsageError("--timeout is for --ack")
    if ttl is not None:
        fields["ttl"] = ttl
    if binary:
        fields["binary"] = list(binary)
    fields |= {name: True for name, on in (("volatile", volatile), ("timestamp", timestamp)) if on}
    wait_seconds = 0.0 if ack is None else timeout_seconds or DEFAULT_ACK_SECONDS
    send_request(endpoint, "POST", path, _body(fields, data), idempotency_key, wait_seconds=wait_seconds)


def _ack(want: str, timeout_seconds: float | None) -> dict[str, object]:
    """Return the member ``ack`` of the body."""
    if want not in {"first", "all"} and not (want.isascii() and want.isdigit()):
        raise UsageError("--ack is first, all or a number")
    terms: dict[str, object] = {"want": int(want) if want.isdigit() else want}
    return terms if timeout_seconds is None else terms | {"timeout_seconds": timeout_seconds}


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
