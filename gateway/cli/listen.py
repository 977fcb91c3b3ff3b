"""``sio-gateway listen``: a client at the terminal."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import base_of, local_url

if TYPE_CHECKING:
    from gateway.settings import Settings

# A new one is signed for every connection, and the gateway asks for the next connection when it runs out.
_OWN_TOKEN_SECONDS: Final = 3600


@click.command()
@click.option("--token", metavar="TOKEN", help="The token to connect with.")
@click.option(
    "--sub", "user", metavar="USER", help="Instead: sign a token for this user with GATEWAY_JWT_SECRET."
)
@click.option("--namespace", default="/", show_default=True, metavar="PATH", help="The Socket.IO namespace.")
@click.option("--url", metavar="URL", help="Where the gateway is. Default: GATEWAY_URL, else this machine.")
@click.option("--path", metavar="PATH", help="Of Socket.IO. Default: GATEWAY_SOCKETIO_PATH, else /socket.io/")
@click.option(
    "--transport",
    type=click.Choice(["polling", "websocket"]),
    help="Use this one only. Default: as configured.",
)
def listen(**given: Any) -> None:
    """Connect as a client and print every event as it comes.

    One JSON line on stdout for each: {"event":"notification:new","args":[{"title":"hi"}]}. What happens to the
    connection is told on stderr. Comes back by itself when the connection or the gateway goes away; ends with status 0
    on Ctrl-C, 1 when the gateway refuses the connection or ends it for good, 2 when the command or a setting is wrong.

    \b
    Examples:
      sio-gateway listen --token "$(sio-gateway token --sub alice)"
      sio-gateway listen --sub alice | jq .args
    """
    _listen(**given)


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
        raise UsageError(f"the namespace {namespace!r} cannot be: {error.message}") from None
    settings = load_settings(os.environ, require_keys=False)
    given = url or os.environ.get("GATEWAY_URL") or local_url(settings, settings.port)
    base = base_of(given)

    def current_token() -> str:
        return token if token is not None else _own_token(settings, user or "")

    current_token()  # before connecting: says at once what is missing

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


def _own_token(settings: Settings, user: str) -> str:
    from gateway.cli.token import signed_token

    return signed_token(settings, user, ttl_seconds=_OWN_TOKEN_SECONDS)
