"""The banner of ``serve --dev``: the addresses, a token, and commands to paste into another terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway import __version__
from gateway.cli.token import signed_token

if TYPE_CHECKING:
    from gateway.settings import Settings

_DEFAULT_URL: Final = "http://127.0.0.1:8080"
_TOKEN_SECONDS: Final = 86_400
_CLAIMS: Final = {"orgId": 7}
_EVENT: Final = """notification:new '{"title":"hi"}'"""
_JWT_PLACEHOLDER: Final = "YOUR_JWT_SECRET"
_KEY_PLACEHOLDER: Final = "YOUR_KEY_SECRET"
_SENDER: Final = Path("examples/backends/python/push.py")


def dev_banner(settings: Settings, url: str, secrets_file: Path | None = None) -> str:
    """Return the text for a gateway that listens at ``url``, scheme and port included.

    Each command contains the secrets that were generated for development, which ``secrets_file`` keeps. Secrets of the
    operator are not shown; the commands have a placeholder for each.
    """
    lines = [
        f"sio-gateway {__version__} in development mode. "
        + (
            "Generated secrets are valid for this run only."
            if secrets_file is None
            else f"{secrets_file} keeps its secrets."
        ),
        "",
        f"  {'Gateway':<8} {url}",
        f"  {'Try it':<8} {url}/dev",
        *_token_lines(settings),
        "",
        "Commands for another terminal, in this folder:",
    ]
    for title, command in dev_commands(settings, url).items():
        lines += ["", f"  # {title}", f"  {command}"]
    for placeholder, name in _placeholders(settings).items():
        lines += ["", f"  Replace {placeholder} by {name}; your own secrets are not shown."]
    return "\n".join([*lines, "", "Ctrl-C ends the gateway.", ""])


def dev_commands(settings: Settings, url: str) -> dict[str, str]:
    """Return the commands of the banner by title; see ``dev_banner``."""
    return dict((*_client_commands(settings, url), *_push_commands(settings, url)))


def own_command() -> str:
    """Return the command of this program from the current folder, independent of the PATH of the other terminal."""
    script = Path(sys.argv[0]).absolute()
    if script.name == "sio-gateway":
        return shlex.quote(_relative(script))
    return f"{shlex.quote(_relative(Path(sys.executable).absolute()))} -m gateway"


def _relative(program: Path) -> str:
    folder = Path.cwd()
    return str(program.relative_to(folder)) if program.is_relative_to(folder) else str(program)


def _token(settings: Settings) -> str | None:
    if not settings.jwt_secret or not any(name.startswith("HS") for name in settings.jwt_algorithms):
        return None
    return signed_token(settings, "alice", ttl_seconds=_TOKEN_SECONDS, claims=_CLAIMS)


def _token_lines(settings: Settings) -> Iterator[str]:
    token = _token(settings)
    if token is None:
        yield "  Tokens   come from their issuer: only public keys are configured"
    else:
        yield f"  {'Token':<8} of user alice in room org:7, valid for one day:"
        yield f"  {token}"


def _client_commands(settings: Settings, url: str) -> Iterator[tuple[str, str]]:
    token = _token(settings)
    options = _url_option(url)
    if settings.socketio_path != "/socket.io/":
        options += f" --path {shlex.quote(settings.socketio_path)}"
    if token is not None:
        yield "listen as alice", f"{own_command()} listen{options} --token {token}"
        secret = settings.jwt_secret[0] if _is_generated(settings, "jwt_secret") else _JWT_PLACEHOLDER
        token_command = f"{_assignments({'GATEWAY_JWT_SECRET': secret})}{own_command()} token --sub bob"
        yield "a token for another user", token_command
    else:
        yield "listen", f"{own_command()} listen{options} --token YOUR_TOKEN"


def _push_commands(settings: Settings, url: str) -> Iterator[tuple[str, str]]:
    environment = _push_environment(settings, url)
    options = _url_option(_ingest_url(settings, url)) if not settings.ingest_path_prefix else ""
    push = f"{_assignments(environment)}{own_command()}"
    yield "push to alice, on all devices", f"{push} emit user alice {_EVENT}{options}"
    yield "push to a room", f"{push} emit room org:7 {_EVENT}{options}"
    yield "push to everyone", f"{push} emit broadcast {_EVENT}{options}"
    yield "is alice online?", f"{push} presence alice{options}"
    if _SENDER.is_file() and not settings.ingest_path_prefix:
        environment = environment | {"GATEWAY_URL": _ingest_url(settings, url)}
        yield (
            "push from your own code, without a library: examples/backends (also bash, Node, PHP, Ruby, Go, Java, C#)",
            f"{_assignments(environment)}python3 {_SENDER} user alice {_EVENT}",
        )


def _push_environment(settings: Settings, url: str) -> dict[str, str | None]:
    key = settings.ingest_keys[0]
    secret = key.secrets[0] if _is_generated(settings, "ingest_keys") else _KEY_PLACEHOLDER
    environment: dict[str, str | None] = {"GATEWAY_KEY": key.id, "GATEWAY_SECRET": secret}
    if settings.ingest_path_prefix:
        # The command bypasses the proxy that removes the prefix, so it signs the prefix and does not send it.
        port = urlsplit(_ingest_url(settings, url)).port
        environment |= {"GATEWAY_PORT": str(port), "GATEWAY_INGEST_PATH_PREFIX": settings.ingest_path_prefix}
    return environment


def _is_generated(settings: Settings, name: str) -> bool:
    from gateway.settings.load import GENERATED

    return settings.origins.get(name) == GENERATED


def _placeholders(settings: Settings) -> dict[str, str]:
    """Return the placeholders in the commands, with what belongs in their place."""
    found = {}
    if settings.jwt_secret and not _is_generated(settings, "jwt_secret"):
        found[_JWT_PLACEHOLDER] = "your GATEWAY_JWT_SECRET"
    if not _is_generated(settings, "ingest_keys"):
        found[_KEY_PLACEHOLDER] = f"the secret of your ingest key {settings.ingest_keys[0].id}"
    return found


def _ingest_url(settings: Settings, url: str) -> str:
    parts = urlsplit(url)
    if settings.ingest_port is None or parts.hostname is None:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{settings.ingest_port}"


def _url_option(url: str) -> str:
    return "" if url == _DEFAULT_URL else f" --url {shlex.quote(url)}"


def _assignments(environment: dict[str, str | None]) -> str:
    return "".join(f"{name}={shlex.quote(value or '')} " for name, value in environment.items())
