"""``sio-gateway batch``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import (
    EXIT_STATUSES,
    check_idempotency_key,
    find_endpoint,
    send_request,
    url_option,
)


@click.command(epilog=EXIT_STATUSES)
@click.argument("file")
@click.option(
    "--idempotency-key", metavar="TEXT", help="Repeated requests with the same TEXT deliver the events once."
)
@url_option
def batch(file: str, idempotency_key: str | None, url: str | None) -> None:
    """Push several events in their order, all or none.

    FILE is JSON, and - is stdin: a list of up to 100 messages, or an object with the member `messages`. Each message
    has `to` ({"user":…}, {"users":[…]}, {"room":…}, {"rooms":[…]} or "everyone") and `event`, and may have `data` or
    `args`, `namespace`, `except`, `all`, `volatile`, `timestamp`, `binary` and `ttl`. Signs with GATEWAY_KEY and
    GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. Prints the JSON response of the gateway.

    \b
    Examples:
      sio-gateway batch messages.json
      echo '[{"to":{"user":"alice"},"event":"hi","data":1}]' | sio-gateway batch -
    """
    endpoint = find_endpoint(url)
    check_idempotency_key(idempotency_key)
    send_request(endpoint, "POST", "/batch", _read(file), idempotency_key)


def _read(file: str) -> bytes:
    """Return the body: the text of the file, or of a list inside of an object."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    text = text.strip()
    return b'{"messages":' + text + b"}" if text.startswith(b"[") else text
