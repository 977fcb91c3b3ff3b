"""The development page as one document, and its response headers."""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import quote

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def render(
    *,
    user: str,
    secret: str,
    namespace: str,
    socketio_path: str,
    commands: Mapping[str, str],
    documents: Collection[str] = (),
) -> str:
    """Return the page of one user.

    ``commands`` are the commands to paste into a terminal, by title. ``documents`` are file names to link to.
    """
    setup = {"user": user, "secret": secret, "namespace": namespace, "path": socketio_path}
    listing = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<pre tabindex="0">{html.escape(command)}</pre></figure>'
        for title, command in commands.items()
    )
    links = ", ".join(f'<a href="/dev/documents/{quote(name)}">{html.escape(name)}</a>' for name in documents)
    return _fill(
        _read("page.html"),
        {
            "style": _read("page.css"),
            "script": _read("page.js"),
            "user": html.escape(user),
            "client": html.escape(f"{socketio_path}socket.io.js"),
            # A "<" inside a script element could end the element.
            "setup": json.dumps(setup).replace("<", "\\u003c"),
            "commands": listing,
            "documents": f"<p>Event catalogue: {links}</p>" if links else "",
        },
    )


def content_security_policy(host: str) -> str:
    """Return a policy that lets the page load from and connect to this process alone.

    ``host`` is a ``Host`` header that the guard has checked.
    """
    script, style = (_csp_hash(_read(name)) for name in ("page.js", "page.css"))
    # Not every browser includes WebSockets of the same host in 'self'.
    return (
        f"default-src 'none'; script-src 'self' '{script}'; style-src '{style}'; img-src data:; "
        f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each ``{{name}}`` in one pass, so that a value is never a template itself."""
    parts = template.split("{{")
    result = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        result += (values[name], rest)
    return "".join(result)


@cache
def _read(name: str) -> str:
    return files("gateway.dev_console").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
