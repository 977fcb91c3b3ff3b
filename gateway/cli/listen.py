"""``sio-gateway listen``: a client at the terminal."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import local_url, parse_gateway_url

if TYPE_CHECKING:
    from gateway.settings import Settings

# A token is signed for every connection. When it expires the gateway disconnects; the next connection has a new one.
_TOKEN_SECONDS: Final = 3600


@click.command()
@click.option("--token", metavar="TOKEN", help="The token to connect with.")
@click.option(
    "--sub",
    "user",
    metavar="USER",
    help="Instead of --token: sign a token for this user with GATEWAY_JWT_SECRET.",
)
@click.option("--namespace", default="/", show_default=True, metavar="PATH", help="The Socket.IO namespace.")
@click.option("--url", metavar="URL", help="URL of the gateway. Default: GATEWAY_URL, else this machine.")
@click.option(
    "--path", metavar="PATH", help="Path of Socket.IO. Default: GATEWAY_SOCKETIO_PATH, else /socket.io/"
)
@click.option(
    "--transport",
    type=click.Choice(["polling", "websocket"]),
    help="Use this transport only. Default: as configured.",
)
def listen(**options: Any) -> None:
    """Connect as a client and print every event on arrival.

    Prints one JSON line on stdout for each event: {"event":"notification:new","args":[{"title":"hi"}]}. Prints changes
    of the connection on stderr. Reconnects when the connection is lost or the gateway restarts.

    Exit status: 0 on Ctrl-C, 1 when the gateway rejects the connection or disconnects the client for good, 2 when the
    command or a setting is wrong.

    \b
    Examples:
      sio-gateway listen --token "$(sio-gateway token --sub alice)"
      sio-gateway listen --sub alice | jq .args
    """
    _listen(**options)


def _listen(
    *,
    token: str | None,
    user: str | None,
    namespace: str,
    url: str | None,
    path: str | None,
    transport: str | None,
) -> None:
    from gateway.domain.errors import InvalidName
    from gateway.domain.names import check_namespace
    from gateway.settings import load_settings

    if (token is None) == (user is None):
        raise UsageError("give either --token TOKEN or --sub USER")
    try:
        check_namespace(namespace)
    except InvalidName as error:
        raise UsageError(f"the namespace {namespace!r} is invalid: {error.message}") from None
    settings = load_settings(os.environ, require_keys=False)
    base = parse_gateway_url(url or os.environ.get("GATEWAY_URL") or local_url(settings, settings.port))

    def current_token() -> str:
        return token if token is not None else _signed_token(settings, user or "")

    current_token()  # reports missing settings before connecting

    from gateway.cli.listener import Listener

    listener = Listener(
        url=f"{base.scheme}://{base.netloc}",
        path=base.path.rstrip("/") + (path or settings.socketio_path),
        namespace=namespace,
        transports=[transport] if transport else list(settings.transports),
        token=current_token,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(listener.run())


def _signed_token(settings: Settings, user: str) -> str:
    from gateway.cli.token import signed_token

    return signed_token(settings, user, ttl_seconds=_TOKEN_SECONDS)
