"""Which web pages may connect (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from collections.abc import Collection

from gateway.domain.origins import parse_allowed_origin, parse_origin

ANY = "*"


class Origins:
    """The allowed origins; ``*`` allows each. A request without ``Origin`` is not a browser's and is allowed."""

    def __init__(self, allowed: Collection[str], *, same_host: bool = False) -> None:
        """``same_host``: the origin that has the host and port of the request is allowed too."""
        self._any = ANY in allowed
        self._allowed = frozenset(parse_allowed_origin(each) for each in allowed if each != ANY)
        self._same_host = same_host

    def allows(self, origin: str | None, *, host: str = "", scheme: str | None = None) -> bool:
        """Whether a page of this origin may connect.

        ``host``: the ``Host`` of the request as its client sent it; ``scheme``: that of the request, if it is known.
        """
        if origin is None or self._any:
            return True
        parsed = parse_origin(origin)
        if parsed is None:
            return False
        if parsed.text in self._allowed or parsed.wildcard in self._allowed:
            return True
        return self._same_host and parsed.is_at(host, scheme=scheme)

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
