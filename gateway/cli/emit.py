"""``sio-gateway emit user|room|broadcast``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import EXIT_STATUSES, find_endpoint, send_request, url_option

_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}", re.ASCII)

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
        help="A room or socket id that does not get it, as often as needed.",
    ),
    click.option("--volatile", is_flag=True, help="Skip clients that cannot take it at once."),
    click.option("--timestamp", is_flag=True, help="Have the gateway put the time into DATA as `timestamp`."),
    click.option("--idempotency-key", metavar="TEXT", help="Under the same text it is delivered once."),
    url_option,
)


def _with_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(epilog=EXIT_STATUSES)
def emit() -> None:
    """Push one event to connected clients.

    DATA is JSON, so a text needs its own quotes ('"hello"'); - reads it from stdin; without it the event has no
    argument. Signed with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. Prints the JSON
    answer of the gateway.

    \b
    Examples:
      sio-gateway emit user alice notification:new '{"title":"hi"}'
      sio-gateway emit room org:7 report:ready '{"id":12}'
      sio-gateway emit broadcast maintenance '"in five minutes"'
    """


@emit.command(epilog=EXIT_STATUSES)
@click.argument("user")
@_with_options
def user(user: str, **given: Any) -> None:
    """Push EVENT with DATA to every connection of USER.

    \b
    Examples:
      sio-gateway emit user alice notification:new '{"title":"hi"}'
      date +'{"now":"%T"}' | sio-gateway emit user alice tick -
    """
    from gateway.domain.errors import InvalidName
    from gateway.domain.names import check_user

    try:
        path = "/emit/user/" + quote(check_user(user), safe="")
    except InvalidName as error:
        raise UsageError(f"the user {user!r} cannot be: {error.message}") from None
    _emit(path, {}, **given)


@emit.command(epilog=EXIT_STATUSES)
@click.argument("room")
@click.option("--also", multiple=True, metavar="ROOM", help="A further room; who is in several gets it once.")
@_with_options
def room(room: str, also: tuple[str, ...], **given: Any) -> None:
    """Push EVENT with DATA to every connection in ROOM.

    \b
    Examples:
      sio-gateway emit room org:7 report:ready '{"id":12}'
      sio-gateway emit room org:7 --also role:admin report:ready '{"id":12}' --except user:alice
    """
    _emit("/emit/room", {"rooms": [room, *also]} if also else {"room": room}, **given)


@emit.command(epilog=EXIT_STATUSES)
@_with_options
def broadcast(**given: Any) -> None:
    """Push EVENT with DATA to every connection in the namespace.

    \b
    Example:
      sio-gateway emit broadcast maintenance '{"minutes":5}'
    """
    _emit("/broadcast", {}, **given)


def _emit(
    path: str,
    target: dict[str, object],
    *,
    event: str,
    data: str | None,
    namespace: str | None,
    excluded: tuple[str, ...],
    volatile: bool,
    timestamp: bool,
    idempotency_key: str | None,
    url: str | None,
) -> None:
    endpoint = find_endpoint(url)
    if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise UsageError("an idempotency key is 1 to 255 printable ASCII characters")
    fields = {**target, "event": event}
    if namespace is not None:
        fields["namespace"] = namespace
    if excluded:
        fields["except"] = list(excluded)
    fields |= {name: True for name, on in (("volatile", volatile), ("timestamp", timestamp)) if on}
    send_request(endpoint, "POST", path, _body(fields, data), idempotency_key)


def _body(fields: dict[str, object], data: str | None) -> bytes:
    """The envelope, with the data exactly as it was written."""
    envelope = json.dumps(fields)
    if data is None:
        return envelope.encode()
    text = sys.stdin.read() if data == "-" else data
    try:
        json.loads(text, parse_constant=_refuse)
        return f'{envelope[:-1]}, "data": {text.strip()}}}'.encode()
    except UnicodeEncodeError:
        raise UsageError("the data is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the data is not JSON ({error}); a text needs its own quotes: '\"hello\"'"
        ) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
