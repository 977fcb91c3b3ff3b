"""``sio-gateway stats``, ``users``, ``rooms`` and ``connections``."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import EXIT_STATUSES, fetch, find_endpoint, print_json, send_request, url_option

_INCOMPLETE: Final = "a replica of the previous release lives: what is there may be missing from this list"
_namespace = click.option("--namespace", help="A namespace of the gateway.")
_prefix = click.option("--prefix", help="Only names that begin so.")


@click.command(epilog=EXIT_STATUSES)
@url_option
def stats(url: str | None) -> None:
    """Print how many users, connections and rooms there are.

    Prints the response of the gateway as JSON, which also has the replicas. Signs with GATEWAY_KEY and
    GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS; the key needs the scope `presence`.

    \b
    Example:
      sio-gateway stats
    """
    send_request(find_endpoint(url), "GET", "/stats")


@click.command(epilog=EXIT_STATUSES)
@_namespace
@_prefix
@url_option
def users(namespace: str | None, prefix: str | None, url: str | None) -> None:
    """Print the users with a connection.

    Prints one line of JSON for each: the id of the user, and how many connections there are in one namespace or in
    all. The key needs the scope `presence`.

    \b
    Example:
      sio-gateway users --prefix shop-
    """
    _print_all("users", {"namespace": namespace, "prefix": prefix}, url)


@click.command("rooms", epilog=EXIT_STATUSES)
@click.argument("room", required=False)
@_namespace
@_prefix
@url_option
def list_rooms(room: str | None, namespace: str | None, prefix: str | None, url: str | None) -> None:
    """Print the rooms with a connection, or what is in ROOM.

    Prints one line of JSON for each room of the namespace, / if absent: its name and how many connections there are.
    The key needs the scope `presence`.

    \b
    Examples:
      sio-gateway rooms --prefix org:
      sio-gateway rooms org:7
    """
    if room is None:
        _print_all("rooms", {"namespace": namespace, "prefix": prefix}, url)
        return
    if prefix is not None:
        raise UsageError("name one ROOM, or use --prefix")
    query = "" if namespace is None else "?" + urlencode({"namespace": namespace})
    send_request(find_endpoint(url), "GET", f"/rooms/{quote(room, safe='')}{query}")


@click.command(epilog=EXIT_STATUSES)
@click.argument("sid", required=False)
@click.option("--user", help="The connections of this user.")
@click.option("--room", help="The connections in this room, if the event catalogue has list_members for it.")
@_namespace
@url_option
def connections(
    sid: str | None, user: str | None, room: str | None, namespace: str | None, url: str | None
) -> None:
    """Print the connections of a user or of a room.

    With SID that connection alone. Prints one line of JSON for each, with its rooms and its data. The key needs the
    scope `presence`.

    \b
    Examples:
      sio-gateway connections --user alice
      sio-gateway connections --room chat:1 --namespace /chat
    """
    if sum(each is not None for each in (sid, user, room)) != 1:
        raise UsageError("name one of SID, --user and --room")
    if sid is None:
        _print_all("connections", {"user": user, "room": room, "namespace": namespace}, url)
        return
    if namespace is not None:
        raise UsageError("a SID is in one namespace: leave out --namespace")
    send_request(find_endpoint(url), "GET", f"/connections/{quote(sid, safe='')}")


def _print_all(member: str, parameters: dict[str, str | None], url: str | None) -> None:
    """Print a list, a page for each request."""
    endpoint = find_endpoint(url)
    given = {name: value for name, value in parameters.items() if value is not None}
    is_complete = True
    while True:
        page = fetch(endpoint, "GET", f"/{member}?{urlencode(given)}" if given else f"/{member}")
        for each in page[member]:
            print_json(each)
        is_complete = is_complete and page.get("complete", True)
        if page["next"] is None:
            break
        given["cursor"] = page["next"]
    if not is_complete:
        click.echo(_INCOMPLETE, err=True)
