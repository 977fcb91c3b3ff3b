"""The development page as one document, and the headers that it is sent with."""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def render(*, user: str, secret: str, namespace: str, socketio_path: str, commands: Mapping[str, str]) -> str:
    """The page of one user; ``commands`` are titles and what to paste into a terminal."""
    setup = {"user": user, "secret": secret, "namespace": namespace, "path": socketio_path}
    listing = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<pre tabindex="0">{html.escape(command)}</pre></figure>'
        for title, command in commands.items()
    )
    return _filled(
        _source("page.html"),
        {
            "style": _source("page.css"),
            "script": _source("page.js"),
            "user": html.escape(user),
            "client": html.escape(f"{socketio_path}socket.io.js"),
            # A "<" inside a script element could end it.
            "setup": json.dumps(setup).replace("<", "\\u003c"),
            "commands": listing,
        },
    )


def content_security_policy(host: str) -> str:
    """What the page may load and whom it may talk to: this process alone. ``host`` is a checked ``Host`` header."""
    script, style = (_hash_of(_source(name)) for name in ("page.js", "page.css"))
    # Not every browser counts WebSockets of the same host as 'self'.
    return (
        f"default-src 'none'; script-src 'self' '{script}'; style-src '{style}'; img-src data:; "
        f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with ``{{name}}`` replaced; one pass, so that no value is looked into."""
    parts = template.split("{{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        filled += (values[name], rest)
    return "".join(filled)


@cache
def _source(name: str) -> str:
    return files("gateway.dev_console").joinpath(name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
