"""Which web pages may connect (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from collections.abc import Collection

ANY = "*"


class Origins:
    """The allowed origins; ``*`` allows each. A request without ``Origin`` is not a browser's and is allowed."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._any = ANY in allowed
        self._allowed = frozenset(origin.lower() for origin in allowed)

    def allows(self, origin: str | None) -> bool:
        """Whether a page of this origin may connect."""
        return origin is None or self._any or origin.lower() in self._allowed

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers that let a page of an allowed origin read the answer."""
        if origin is None:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
        }

    def preflight_headers(self, origin: str | None, requested_headers: str | None) -> dict[str, str]:
        """Return the headers of the answer to OPTIONS: the methods of Engine.IO, and the request headers of the page.

        ``requested_headers``: its ``Access-Control-Request-Headers``.
        """
        headers = self.headers(origin)
        if headers:
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            headers["Access-Control-Max-Age"] = "600"
            if requested_headers:
                headers["Access-Control-Allow-Headers"] = requested_headers
        return headers
