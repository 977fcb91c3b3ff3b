"""The key set of an issuer (RFC 7517 §5), fetched over HTTP, cached and refreshed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from gateway.auth.jwk import Key, find_matching, read_key_set
from gateway.domain.bounded_body import BodyTooLarge, read_bounded
from gateway.domain.errors import KeysUnavailable
from gateway.interfaces import Clock

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 1024 * 1024
FETCH_TIMEOUT_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 30.0
RENEW_AFTER_SECONDS: Final = 600.0

_UNAVAILABLE: Final = "the keys of the token's issuer are not available at the moment"
Fetch = Callable[[str], Awaitable[str]]
"""Returns the text at a URL. It may raise any exception."""

_log = structlog.get_logger("gateway.auth")


async def fetch_text(url: str) -> str:
    """Return the text at a URL. Satisfies ``Fetch``.

    Redirects are not followed: the operator configured one URL, and keys from another would be trusted as well.

    Raises:
        aiohttp.ClientError: The request failed, its status is not 200, or the body has more than ``MAX_BYTES``.
        TimeoutError: The request took more than ``TIMEOUT_SECONDS``.
        UnicodeDecodeError: The body is not UTF-8.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        response.raise_for_status()
        if response.status != HTTPStatus.OK:
            raise aiohttp.ClientError(f"status {response.status} instead of a key set")
        try:
            body = await read_bounded(response.content.readany, MAX_BYTES)
        except BodyTooLarge:
            raise aiohttp.ClientError(f"a key set has at most {MAX_BYTES} bytes") from None
        return body.decode()


class JwksCache:
    """Caches the newest valid key set of an issuer. Concurrent callers share one fetch.

    - A fetch starts at most every PAUSE_SECONDS (FIRST_PAUSE_SECONDS before the first valid set).
    - The next valid set replaces the whole set, so a key that the issuer withdrew is rejected within
      RENEW_AFTER_SECONDS. A refresh blocks no caller. A failed fetch changes nothing.
    - A fetch belongs to this object, not to its caller: only its timeout, ``cancel`` or ``close`` ends it.
    """

    def __init__(self, *, url: str, fetch: Fetch, algorithms: Collection[str], clock: Clock) -> None:
        self._url = url
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetch_started_at: float | None = None
        self._fetched_at = 0.0
        self._fetch_succeeded = False
        self._fetch_task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a valid set is cached."""
        return bool(self._keys)

    async def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Return the keys that may have signed a token with this header; none if the issuer has no such key.

        Raises:
            KeysUnavailable: No cached key matches, and the last fetch failed.
        """
        if self.is_ready and self._clock.monotonic() - self._fetched_at >= RENEW_AFTER_SECONDS:
            self._start_fetch()
        found = find_matching(self._keys, algorithm, kid)
        if not found:
            await self._refresh_if_stale()
            found = find_matching(self._keys, algorithm, kid)
        if not found and not self._fetch_succeeded:
            raise KeysUnavailable(_UNAVAILABLE)
        return found

    async def load(self) -> None:
        """Fetch the set if none is cached, whatever its age.

        Raises:
            KeysUnavailable: The fetch failed.
        """
        if not self.is_ready:
            await self._refresh_if_stale()
        if not self.is_ready:
            raise KeysUnavailable(_UNAVAILABLE)

    def prefetch(self) -> None:
        """Start a fetch if no valid set is cached, unless one is running or the last one started too recently."""
        if not self.is_ready:
            self._start_fetch()

    def cancel(self) -> None:
        """Cancel a running fetch. Its callers get KeysUnavailable."""
        if self._fetch_task is not None:
            self._fetch_task.cancel()

    async def close(self) -> None:
        """Cancel a running fetch, and wait for its end."""
        self.cancel()
        if self._fetch_task is not None:
            await asyncio.gather(self._fetch_task, return_exceptions=True)

    async def _refresh_if_stale(self) -> None:
        fetch_task = self._start_fetch()
        if fetch_task is not None:
            # Not awaited directly: a caller that is cancelled while it waits must not cancel the fetch of the others.
            await asyncio.wait({fetch_task})

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """Return the running fetch or a new one, or None while it is too early for a new one."""
        if self._fetch_task is not None and not self._fetch_task.done():
            return self._fetch_task
        now = self._clock.monotonic()
        pause = PAUSE_SECONDS if self.is_ready else FIRST_PAUSE_SECONDS
        if self._fetch_started_at is not None and now - self._fetch_started_at < pause:
            return None
        self._fetch_started_at = now
        self._fetch_task = asyncio.create_task(self._fetch_keys(), name="jwks-fetch")
        return self._fetch_task

    async def _fetch_keys(self) -> None:
        self._fetch_succeeded = False
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                text = await self._fetch(self._url)
            self._keys = read_key_set(text, self._algorithms)
        except Exception as error:  # noqa: BLE001  the outermost edge: after any error the last valid set stays
            _log.warning("jwks.failed", error=type(error).__name__, reason=str(error), kept=len(self._keys))
            return
        self._fetch_succeeded = True
        self._fetched_at = self._clock.monotonic()
        _log.info("jwks.fetched", keys=len(self._keys))
