"""Origins of web pages (RFC 6454 §4): one form for each, and the forms in which the operator lists them.

Browsers write an origin in one way. Libraries of apps write the address that they connect to: with a slash at its end,
with the default port, or with the scheme ``wss``. All of these mean the same origin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

MAX_CHARACTERS: Final = 300
"""Longest origin that is parsed: a host name has at most 253 characters."""
OPAQUE: Final = frozenset({"null", "file://"})
"""Origins without a host: of sandboxed pages, and of pages in files, as Electron and old WebViews load them."""
_MAX_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}
_AUTHORITY_TEXT: Final = r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?"
_AUTHORITY: Final = re.compile(_AUTHORITY_TEXT, re.ASCII)
_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]*)://{_AUTHORITY_TEXT}/?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """A parsed origin in lower case, with ``http`` for ``ws``. ``port`` is None for the default of the scheme.

    ``text`` is its one form, as browsers write it. ``host`` is empty for an origin in ``OPAQUE``.
    """

    text: str
    scheme: str
    host: str
    port: int | None

    @property
    def wildcard(self) -> str | None:
        """The wildcard of the operator that allows this origin: ``https://*.example.com`` for one label more."""
        label, _, rest = self.host.partition(".")
        if not rest or _LABEL.fullmatch(label) is None:
            return None
        return _format(self.scheme, f"*.{rest}", self.port)

    def is_at(self, host: str, *, scheme: str | None) -> bool:
        """Whether a request with this ``Host`` went to the server that the page is from.

        ``scheme``: that of the request if it is known. A page that came without TLS is no part of a site with TLS: the
        network may have changed it.
        """
        requested = _authority(host.lower()) if host.isascii() else None
        default = _DEFAULT_PORTS.get(self.scheme)
        if requested is None or default is None or (self.scheme, scheme) == ("http", "https"):
            return False
        return (self.host, self.port or default) == (requested[0], requested[1] or default)


@lru_cache(maxsize=1024)
def parse_origin(text: str) -> Origin | None:
    """Parse the value of an ``Origin`` header; None if it is not one origin.

    User names, paths, lists and characters beyond ASCII make it none. A final dot makes another host, as in browsers.
    """
    # Before lower(), which would turn the Kelvin sign into a k.
    if len(text) > MAX_CHARACTERS or not text.isascii():
        return None
    text = text.lower()
    if text == "file:///" or text in OPAQUE:
        opaque = "null" if text == "null" else "file://"
        return Origin(opaque, opaque.partition(":")[0], "", None)
    found = _ORIGIN.fullmatch(text)
    authority = None if found is None else _parse_authority(found[2], found[3])
    if found is None or authority is None:
        return None
    scheme = _HTTP_SCHEMES.get(found[1], found[1])
    host, port = authority
    if port == _DEFAULT_PORTS.get(scheme):
        port = None
    return Origin(_format(scheme, host, port), scheme, host, port)


def parse_allowed_origin(text: str) -> str:
    """Parse an origin of the operator's list, or ``https://*.example.com``, into its one form.

    The wildcard stands for one label, as in certificates (RFC 9525 §6.3), and not before a top-level domain.

    Raises:
        ValueError: a sentence that quotes the text and says what is expected.
    """
    if not text.isascii():
        raise ValueError(f"{text!r} has characters beyond ASCII: write the host as browsers do, as xn--…")
    head, wildcard, tail = text.partition("://*.")
    origin = parse_origin(f"{head}://{tail}" if wildcard else text)
    if origin is None and "*" not in text:
        raise ValueError(f"{text!r} is not an origin: write it as https://app.example.com, without a path")
    if origin is None or (wildcard and not _may_have_wildcard(origin.host)):
        raise ValueError(
            f"{text!r}: a wildcard stands for the first label of a domain, as in https://*.preview.example.com; "
            "list the origins, or use * alone"
        )
    return _format(origin.scheme, f"*.{origin.host}", origin.port) if wildcard else origin.text


def _may_have_wildcard(host: str) -> bool:
    labels = host.split(".")
    is_domain = all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal()
    return is_domain and (len(labels) > 1 or host == "localhost")


def _authority(text: str) -> tuple[str, int | None] | None:
    """Return host and port of a ``Host`` header in lower case (RFC 9110 §7.2); None if it is none."""
    found = _AUTHORITY.fullmatch(text)
    return None if found is None else _parse_authority(found[1], found[2])


def _parse_authority(host: str, port: str | None) -> tuple[str, int | None] | None:
    number = None if port is None else int(port)
    if number is not None and not 0 < number <= _MAX_PORT:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return host, number


def _format(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"
