"""``sio-gateway types`` and ``sio-gateway asyncapi``: documents of the event catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.errors import UsageError

if TYPE_CHECKING:
    from gateway.domain.event_catalogue import EventCatalogue
    from gateway.events.typescript import Acks

_file = click.argument("file", envvar="GATEWAY_EVENTS_FILE", type=click.Path(path_type=Path))


@click.command()
@click.option(
    "--ack",
    type=click.Choice(["optional", "required", "none"]),
    default="optional",
    show_default=True,
    help="Whether an emit takes an acknowledgement.",
)
@_file
def types(ack: Acks, file: Path) -> None:
    """Print TypeScript declarations of the events.

    Reads the event catalogue in FILE, or that of GATEWAY_EVENTS_FILE, and prints one .d.ts that imports only
    socket.io-client. It has three types for each namespace: ChatClientToServerEvents, ChatServerToClientEvents and
    ChatSocket for /chat, and Main… for /.

    \b
    Example:
      sio-gateway types events.yaml > src/gateway-events.d.ts
    """
    from gateway.events.typescript import typescript

    click.echo(typescript(_load(file), acks=ack), nl=False)


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of YAML.")
@_file
def asyncapi(is_json: bool, file: Path) -> None:
    """Print an AsyncAPI 3.0 document of the events.

    Reads the event catalogue in FILE, or that of GATEWAY_EVENTS_FILE. A namespace is a channel, an event an operation,
    and its acknowledgement the reply.

    \b
    Example:
      sio-gateway asyncapi events.yaml > asyncapi.yaml
    """
    from gateway.events import asyncapi as documents

    document: dict[str, Any] = documents.asyncapi(_load(file), title=file.name)
    click.echo(documents.as_json(document) if is_json else documents.as_yaml(document), nl=False)


def _load(file: Path) -> EventCatalogue:
    """Return the catalogue in a file. Its namespaces and webhooks need not be configured here."""
    from gateway.events import CatalogueError, load_catalogue

    try:
        return load_catalogue(_read(file), namespaces=None, webhooks=None)
    except CatalogueError as error:
        raise UsageError("\n".join(f"{file}: {mistake}" for mistake in error.mistakes)) from None


def _read(file: Path) -> str:
    from gateway.settings.files import read_file

    try:
        return read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
