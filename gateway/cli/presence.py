"""``sio-gateway presence``."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from gateway.cli.http_client import (
    EXIT_STATUSES,
    fetch,
    find_endpoint,
    print_json,
    send_request,
    url_option,
    user_in_path,
)

_USERS_IN_A_REQUEST: Final = 200


@click.command(epilog=EXIT_STATUSES)
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@url_option
def presence(users: tuple[str, ...], url: str | None) -> None:
    """Print whether each USER is connected.

    Prints the response of the gateway as JSON. For one USER: whether the user is online, each connection, and when the
    last connection ended. For several: the same by user, with the number of connections. Signs with GATEWAY_KEY and
    GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS; the key needs the scope `presence`.

    \b
    Examples:
      sio-gateway presence alice
      sio-gateway presence alice bob
    """
    if len(users) == 1:
        send_request(find_endpoint(url), "GET", "/presence/" + user_in_path(users[0]))
        return
    for user in users:
        user_in_path(user)
    endpoint = find_endpoint(url)
    distinct = tuple(dict.fromkeys(users))
    found: dict[str, Any] = {}
    for start in range(0, len(distinct), _USERS_IN_A_REQUEST):
        body = json.dumps({"users": distinct[start : start + _USERS_IN_A_REQUEST]}).encode()
        found |= fetch(endpoint, "POST", "/presence", body)["users"]
    print_json({"users": found})
