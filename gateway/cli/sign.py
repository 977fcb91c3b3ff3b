"""``sio-gateway sign``: the headers of a signed request, to compare with those of a sender or to paste."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

import click

from gateway.cli.errors import UsageError
from gateway.cli.http_client import Endpoint, check_idempotency_key, find_endpoint, signed_headers, url_option


@click.command()
@click.argument("method")
@click.argument("target")
@click.argument("body", required=False, default=None)
@click.option("--curl", is_flag=True, help="Print a curl command instead of the headers.")
@click.option("--idempotency-key", metavar="TEXT", help="Sign this Idempotency-Key too.")
@url_option
def sign(
    *, method: str, target: str, body: str | None, curl: bool, idempotency_key: str | None, url: str | None
) -> None:
    """Print the headers of a signed request, or a curl command.

    TARGET is the path with its query, percent-encoded, as in the request line. BODY is signed byte for byte; with - it
    is read from stdin. Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS. The
    signature is valid once and for five minutes.

    \b
    Examples:
      sio-gateway sign POST /emit/user/alice '{"event":"hi","data":{}}'
      sio-gateway sign --curl GET /presence/alice
    """
    if not method.isascii() or not method.isalpha():
        raise UsageError(f"{method!r} is not a method such as POST")
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target:
        raise UsageError(
            f"{target!r} is not a target such as /emit/user/alice: percent-encode other characters"
        )
    endpoint = find_endpoint(url)
    check_idempotency_key(idempotency_key)
    target = endpoint.base.path.rstrip("/") + target
    content = sys.stdin.buffer.read() if body == "-" else (body or "").encode(errors="surrogateescape")
    headers = signed_headers(endpoint, method.upper(), target, content, idempotency_key)
    if curl:
        click.echo(_curl(endpoint, method.upper(), target, content, headers))
    else:
        for name, value in headers.items():
            click.echo(f"{name}: {value}")


def _curl(endpoint: Endpoint, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Return a command that sends the request. ``--path-as-is`` keeps the target that was signed.

    Raises: UsageError if the body is not text.
    """
    parts = ["curl", "--path-as-is", "-X", method, f"{endpoint.base.scheme}://{endpoint.base.netloc}{target}"]
    for name, value in headers.items():
        parts += ["-H", f"{name}: {value}"]
    if body:
        try:
            parts += ["--data-binary", body.decode()]
        except UnicodeDecodeError:
            raise UsageError("the body is not UTF-8, so no command can contain it") from None
    return shlex.join(parts)
