"""Signed requests to the REST API, and the exit status for each response."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, quote, urlsplit

import click

from gateway.cli.errors import Rejected, Unreachable, UsageError
from gateway.domain.ingest_keys import KEY_ID

if TYPE_CHECKING:
    from gateway.settings import Settings

_TIMEOUT_SECONDS: Final = 30
# A wildcard address can be listened on, but not connected to.
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104

url_option = click.option(
    "--url",
    metavar="URL",
    help="URL of the gateway. Default: GATEWAY_URL, else this machine at the configured port.",
)
EXIT_STATUSES: Final = (
    "Exit status: 0 when the gateway accepted the request, 1 when it rejected it, 2 when the command or a setting is "
    "wrong, 3 when no gateway answers."
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST API and the key to sign with. ``hidden_prefix`` is signed but not sent: a proxy would remove it."""

    base: SplitResult
    key_id: str
    secret: str
    hidden_prefix: str = ""


def find_endpoint(url: str | None) -> Endpoint:
    """Return the REST API that the option or the environment names.

    Raises: UsageError if there is no key or the URL is wrong. SettingsError.
    """
    from gateway.settings import load_settings

    settings = load_settings(os.environ, require_keys=False)
    key_id, secret = _key(settings)
    gateway_url = url or os.environ.get("GATEWAY_URL")
    if gateway_url:
        return Endpoint(parse_gateway_url(gateway_url), key_id, secret)
    base = urlsplit(local_url(settings, settings.ingest_port or settings.port))
    return Endpoint(base, key_id, secret, hidden_prefix=settings.ingest_path_prefix)


def local_url(settings: Settings, port: int) -> str:
    """Return the URL at which a gateway with these settings is reached from its own machine."""
    host = "127.0.0.1" if settings.host in _WILDCARDS else settings.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def parse_gateway_url(url: str) -> SplitResult:
    """Return the parts of the URL of a gateway.

    Raises: UsageError.
    """
    from gateway.settings.values import web_address

    try:
        if not url.isascii():
            raise ValueError("contains characters that must be percent-encoded")
        return urlsplit(web_address(url))
    except ValueError as error:
        raise UsageError(f"the URL {url!r} {error}") from None


def _key(settings: Settings) -> tuple[str, str]:
    from gateway.settings.credentials import secret as parse_secret

    key_id, secret = os.environ.get("GATEWAY_KEY"), os.environ.get("GATEWAY_SECRET")
    if key_id and secret:
        if not KEY_ID.fullmatch(key_id):
            raise UsageError("GATEWAY_KEY is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
        try:
            return key_id, parse_secret(secret)
        except ValueError as error:
            raise UsageError(f"GATEWAY_SECRET {error}") from None
    if key_id or secret:
        raise UsageError("GATEWAY_KEY and GATEWAY_SECRET belong together: set both or none")
    if not settings.ingest_keys:
        raise UsageError(
            "no key to sign with: set GATEWAY_KEY and GATEWAY_SECRET to the id and the secret of one of the gateway's "
            "ingest keys, or GATEWAY_INGEST_KEYS to the value that the gateway has (`sio-gateway serve --dev` prints "
            "this command with the key of its run)"
        )
    return settings.ingest_keys[0].id, settings.ingest_keys[0].secrets[0]


def send_request(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: bytes = b"",
    idempotency_key: str | None = None,
    *,
    wait_seconds: float = 0.0,
) -> None:
    """Send a signed request and print the JSON of the response on stdout.

    ``wait_seconds``: how long the gateway may wait by itself before it responds.
    ``path`` is percent-encoded by the caller and sent verbatim, because these bytes are signed.

    Raises: Rejected for a status other than 2xx and for a response that is not JSON. Unreachable.
    """
    print_json(fetch(endpoint, method, path, body, idempotency_key, wait_seconds=wait_seconds))


def fetch(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: bytes = b"",
    idempotency_key: str | None = None,
    *,
    wait_seconds: float = 0.0,
) -> Any:
    """Send a signed request and return the JSON of the response. A rejection is printed on stdout, too.

    Raises: as ``send_request``.
    """
    target = endpoint.base.path.rstrip("/") + path
    headers = signed_headers(endpoint, method, target, body, idempotency_key)
    try:
        seconds = _TIMEOUT_SECONDS + wait_seconds
        status, content = _exchange(endpoint.base, method, target, body, headers, timeout_seconds=seconds)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_unreachable(endpoint.base, error)) from None
    try:
        response = json.loads(content)
    except ValueError:
        raise Rejected(f"the response has status {status} and is not JSON: is this a gateway?") from None
    if not 200 <= status < 300:
        print_json(response)
        raise Rejected(_rejection(status, response))
    return response


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def user_in_path(user: str) -> str:
    """Return a user id as it stands in a path.

    Raises: UsageError if it is invalid.
    """
    from gateway.domain.errors import InvalidName
    from gateway.domain.names import check_user

    try:
        return quote(check_user(user), safe="")
    except InvalidName as error:
        raise UsageError(f"the user id {user!r} is invalid: {error.message}") from None


def check_idempotency_key(text: str | None) -> None:
    """Raises: UsageError if no request can have this key."""
    from ingest_api.signing import IDEMPOTENCY_KEY

    if text is not None and not IDEMPOTENCY_KEY.fullmatch(text):
        raise UsageError("an idempotency key is 1 to 255 printable ASCII characters")


def signed_headers(
    endpoint: Endpoint, method: str, target: str, body: bytes, idempotency_key: str | None
) -> dict[str, str]:
    """Return the headers of a request with a new nonce. ``target`` begins with the path of the endpoint."""
    from ingest_api.signing import sign

    headers = {"Content-Type": "application/json"} if body else {}
    return headers | sign(
        endpoint.secret,
        key_id=endpoint.key_id,
        method=method,
        target=endpoint.hidden_prefix + target,
        timestamp=int(time.time()),
        nonce=secrets.token_urlsafe(16),
        idempotency_key=idempotency_key,
        body=body,
    )


def _exchange(
    base: SplitResult,
    method: str,
    target: str,
    body: bytes,
    headers: dict[str, str],
    *,
    timeout_seconds: float,
) -> tuple[int, bytes]:
    connect = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    connection = connect(base.netloc, timeout=timeout_seconds)
    try:
        connection.request(method, target, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _unreachable(base: SplitResult, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"no gateway answers at {base.scheme}://{base.netloc}: {reason}"


def _rejection(status: int, response: Any) -> str:
    problem = response if isinstance(response, dict) else {}
    reason = problem.get("detail") or problem.get("title") or "no reason given"
    return f"the gateway rejected the request: {status} {problem.get('code', '')}: {reason}"
