"""The key set of an issuer, fetched over the network (RFC 7517 §5).

Gets a key set over HTTP; satisfies ``remote.Fetch``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from gateway.auth.jwk import Key, find_matching, read_key_set
from gateway.domain.errors import KeysUnavailable
from gateway.interfaces import Clock

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 1024 * 1024


async def fetch_text(url: str) -> str:
    """The text at an address, MAX_BYTES at most; raises aiohttp.ClientError, TimeoutError, UnicodeDecodeError.

    Redirects are not followed: the operator named one address, and keys from another would be trusted all the same.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url, allow_redirects=False) as answer:
        answer.raise_for_status()
        if answer.status != HTTPStatus.OK:
            raise aiohttp.ClientError(f"status {answer.status} instead of a key set")
        return await _read(answer)


async def _read(answer: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise aiohttp.ClientError(f"a key set has at most {MAX_BYTES} bytes")
    return body.decode()


Fetch = Callable[[str], Awaitable[str]]
"""Answers the text at an address; raises anything if it cannot."""

FETCH_TIMEOUT_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 30.0
RENEW_AFTER_SECONDS: Final = 600.0

_log = structlog.get_logger("gateway.auth")


class JwksCache:
    """The newest good key set, and one fetch at a time for everybody who waits for a newer one.

    - A fetch begins at most every PAUSE_SECONDS (FIRST_PAUSE_SECONDS before the first good set).
    - A set is replaced by the next good one as a whole, so that a key which the issuer withdrew is refused within
      RENEW_AFTER_SECONDS; renewing keeps nobody waiting. A fetch that fails changes nothing.
    - A fetch belongs to this object, not to who asked for it: it ends by its timeout or by ``close``.
    """

    def __init__(self, *, url: str, fetch: Fetch, algorithms: Collection[str], clock: Clock) -> None:
        self._url = url
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetch_started_at: float | None = None
        self._read_at = 0.0
        self._issuer_answers = False
        self._fetching: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a good set."""
        return bool(self._keys)

    async def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """The keys that may have signed a token with this header, none if the issuer has no such key.

        Raises KeysUnavailable where the issuer could not be asked.
        """
        if self.ready and self._clock.monotonic() - self._read_at >= RENEW_AFTER_SECONDS:
            self._start_fetch()
        found = find_matching(self._keys, algorithm, kid)
        if not found:
            await self._refresh_if_stale()
            found = find_matching(self._keys, algorithm, kid)
        if not found and not self._issuer_answers:
            raise KeysUnavailable("the keys of the token's issuer cannot be had at the moment")
        return found

    async def load(self) -> None:
        """Have a good set, whatever its age; raises KeysUnavailable."""
        if not self.ready:
            await self._refresh_if_stale()
        if not self.ready:
            raise KeysUnavailable("the keys of the token's issuer cannot be had at the moment")

    def prefetch(self) -> None:
        """Begin a fetch if there is no good set, unless one is under way or the last one was just now."""
        if not self.ready:
            self._start_fetch()

    def cancel(self) -> None:
        """Nobody needs this set any more: who waits for it is told that it cannot be had."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def close(self) -> None:
        """End a fetch that is under way."""
        self.cancel()
        if self._fetching is not None:
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _refresh_if_stale(self) -> None:
        fetching = self._start_fetch()
        if fetching is not None:
            # Not awaited itself: who goes away while waiting must not take the answer from the others.
            await asyncio.wait({fetching})

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The fetch under way, a new one, or None while it is too early for a new one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock.monotonic()
        pause = PAUSE_SECONDS if self.ready else FIRST_PAUSE_SECONDS
        if self._fetch_started_at is not None and now - self._fetch_started_at < pause:
            return None
        self._fetch_started_at = now
        self._fetching = asyncio.create_task(self._read(), name="jwks-fetch")
        return self._fetching

    async def _read(self) -> None:
        self._issuer_answers = False
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                text = await self._fetch(self._url)
            self._keys = read_key_set(text, self._algorithms)
        except Exception as error:  # noqa: BLE001  a door: whatever a foreign server does, the last good set is kept
            _log.warning("jwks.failed", error=type(error).__name__, reason=str(error), kept=len(self._keys))
            return
        self._issuer_answers = True
        self._read_at = self._clock.monotonic()
        _log.info("jwks.fetched", keys=len(self._keys))
