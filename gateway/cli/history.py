"""``sio-gateway history``: print the messages that the gateway still holds, or erase them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import (
    EXIT_STATUSES,
    Endpoint,
    fetch,
    find_endpoint,
    print_json,
    send_request,
    url_option,
    user_in_path,
)

_PAGE: Final = 100

Command = Callable[..., None]


def _options(command: Command) -> Command:
    """Add the options that all these commands have."""
    for option in reversed(
        (
            click.option(
                "--namespace", default="/", show_default=True, help="The namespace of the messages."
            ),
            click.option("--after", metavar="POSITION", help="Only messages after this position."),
            click.option("--limit", type=click.IntRange(min=1), help="At most so many messages."),
            click.option("--newest", is_flag=True, help="The newest messages: 100, or as --limit has it."),
            click.option("--delete", is_flag=True, help="Erase messages instead: those up to --upto."),
            click.option("--upto", metavar="POSITION", help="The position of the newest message to erase."),
            url_option,
        )
    ):
        command = option(command)
    return command


@click.group(epilog=EXIT_STATUSES)
def history() -> None:
    """Print or erase the messages that are still held.

    Prints one line of JSON for each message, oldest first. Messages are held as long as a client may be away
    (GATEWAY_RECOVERY_SECONDS); a line on stderr says if others are missing. With --delete messages are erased: clients
    that were away do not get them any more.

    \b
    Examples:
      sio-gateway history room org:7
      sio-gateway history user alice --newest --limit 10
      sio-gateway history user alice --delete --upto 1795262400123-417
    """


@history.command(epilog=EXIT_STATUSES)
@click.argument("name")
@_options
def room(name: str, **options: Any) -> None:
    """Print or erase the messages to the room NAME.

    The key needs the scope `history` for the room; to erase, `admin`. A message to several rooms is erased from all.

    \b
    Example:
      sio-gateway history room org:7 --newest
    """
    _run("room/" + _room_in_path(name), **options)


@history.command(epilog=EXIT_STATUSES)
@click.argument("user_id", metavar="USER")
@_options
def user(user_id: str, **options: Any) -> None:
    """Print or erase the messages to USER.

    The key needs the scope `history` for the room `user:USER`; to erase, `admin`. A message to several users is erased
    for all.

    \b
    Example:
      sio-gateway history user alice --delete --upto 1795262400123-417
    """
    _run("user/" + user_in_path(user_id), **options)


@history.command(epilog=EXIT_STATUSES)
@_options
def broadcast(**options: Any) -> None:
    """Print or erase the messages to everyone in a namespace.

    The key needs the scope `history` for every room; to erase, `admin`.

    \b
    Example:
      sio-gateway history broadcast --namespace /news
    """
    _run("broadcast", **options)


def _run(
    path: str,
    *,
    namespace: str,
    after: str | None,
    limit: int | None,
    newest: bool,
    delete: bool,
    upto: str | None,
    url: str | None,
) -> None:
    if delete and (after is not None or limit is not None or newest):
        raise UsageError("--delete goes with --upto, and with none of --after, --limit and --newest")
    if delete != (upto is not None):
        raise UsageError("--delete and --upto belong together")
    if newest and limit is not None and limit > _PAGE:
        raise UsageError(f"--newest prints {_PAGE} messages at most")
    endpoint = find_endpoint(url)
    target = f"/history/{path}?" + urlencode({"namespace": namespace}, quote_via=quote, safe="")
    if upto is not None:
        send_request(endpoint, "DELETE", f"{target}&upto={quote(upto, safe='')}")
        return
    for page in _pages(endpoint, target, after=after, limit=limit, newest=newest):
        if page["gap"] is not None:
            click.echo(f"messages are missing: {page['gap']}", err=True)
        for message in page["messages"]:
            print_json(message)


def _pages(
    endpoint: Endpoint, target: str, *, after: str | None, limit: int | None, newest: bool
) -> Iterator[dict[str, Any]]:
    """Yield pages until there are no more, or ``limit`` messages."""
    left = limit
    while True:
        parameters = f"&limit={_PAGE if left is None else min(left, _PAGE)}"
        if newest:
            parameters += "&newest=true"
        if after is not None:
            parameters += f"&after={quote(after, safe='')}"
        page = fetch(endpoint, "GET", target + parameters)
        yield page
        if left is not None:
            left -= len(page["messages"])
        after = page["next"]
        if after is None or left == 0:
            return


def _room_in_path(name: str) -> str:
    from gateway.domain.errors import InvalidName
    from gateway.domain.names import check_room

    try:
        return quote(check_room(name), safe="")
    except InvalidName as error:
        raise UsageError(f"the room {name!r} is invalid: {error.message}") from None
