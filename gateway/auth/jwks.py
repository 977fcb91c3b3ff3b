"""The key set of an issuer (RFC 7517 §5), fetched over HTTP, cached and refreshed."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from gateway.auth.jwk import Key, find_matching, read_key_set
from gateway.domain.bounded_body import BodyTooLarge, read_bounded
from gateway.domain.errors import KeysStale, KeysUnavailable
from gateway.interfaces import Clock, Schedule, Timer

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 1024 * 1024
FETCH_TIMEOUT_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 30.0
DEMAND_PAUSE_SECONDS: Final = 4.0
"""Shorter than the time for which a token is held, so tokens with made-up key ids delay no other token beyond it."""
MAX_REMEMBERED_KIDS: Final = 1024
MAX_HELD_TOKENS: Final = 1000
"""Each is a CONNECT of an unauthenticated client, and has up to MAX_TOKEN_BYTES."""
RENEW_AFTER_SECONDS: Final = 600.0
MAX_REMEMBERED_TOKENS: Final = 1024
REMEMBER_SECONDS: Final = 2 * PAUSE_SECONDS

_UNAVAILABLE: Final = "the keys of the token's issuer are not available at the moment"
_STALE: Final = "the key of the token is not in the key set of its issuer, which is fetched again soon"
Fetch = Callable[[str], Awaitable[str]]
"""Returns the text at a URL. It may raise any exception."""

_log = structlog.get_logger("gateway.auth")


async def fetch_text(url: str, *, user_agent: str) -> str:
    """Return the text at a URL. With ``user_agent`` bound it satisfies ``Fetch``.

    The proxy is that of ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``. Redirects are not followed: the operator
    configured one URL, and keys from another would be trusted as well.

    Raises:
        aiohttp.ClientError: The request failed, its status is not 200, or the body has more than ``MAX_BYTES``.
        TimeoutError: The request took more than ``TIMEOUT_SECONDS``.
        UnicodeDecodeError: The body is not UTF-8.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    # A cache on the way would return the set from before a rotation.
    headers = {"User-Agent": user_agent, "Accept": "application/json", "Cache-Control": "no-cache"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
        try:
            request = await session.get(url, allow_redirects=False)
        except aiohttp.InvalidURL:
            # Its text is the URL of the proxy, which may hold a password. That of the key set was checked at start.
            raise aiohttp.ClientError(
                "HTTPS_PROXY or HTTP_PROXY is not a URL such as http://proxy:3128"
            ) from None
        async with request as response:
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

    - Tokens with one key id start a fetch at most every PAUSE_SECONDS, and all tokens together at most every
      DEMAND_PAUSE_SECONDS (FIRST_PAUSE_SECONDS before the first valid set). So a client that makes up key ids spends no
      fetch that a real one needs. The fetches at start and of ``find`` do not count: the first new key after them is
      fetched at once.
    - At most MAX_HELD_TOKENS wait at a time. A further one starts a fetch as well and is to come again.
    - A token may be rejected for its key only if a fetch succeeded that started after the token was first checked:
      the set from before may be older than the key.
    - The next valid set replaces the whole set, so a key that the issuer withdrew is rejected within
      RENEW_AFTER_SECONDS. A refresh blocks no caller. A failed fetch changes nothing.
    - A fetch belongs to this object, not to its caller: only its timeout, ``cancel`` or ``close`` ends it.
    """

    def __init__(
        self,
        *,
        url: str,
        fetch: Fetch,
        algorithms: Collection[str],
        clock: Clock,
        schedule: Schedule,
        issuer: str = "",
    ) -> None:
        """``issuer`` is its name in the log, empty for JWT_JWKS_URL."""
        self._issuer = issuer
        self._url = url
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._schedule = schedule
        self._keys: tuple[Key, ...] = ()
        self._fetch_started_at = -math.inf
        self._demanded_at = -math.inf
        """When a token started a fetch."""
        self._kids_fetched_at: OrderedDict[str | None, float] = OrderedDict()
        """When tokens with a key id started the last successful fetch, the latest last."""
        self._wanted_kids: set[str | None] = set()
        """The key ids for which the next fetch is started, or for which one is running."""
        self._fetched_since = -math.inf
        """When the last successful fetch started; the set is not older."""
        self._fetched_at = 0.0
        self._fetch_succeeded = False
        self._fetch_task: asyncio.Task[None] | None = None
        self._next_fetch: Timer | None = None
        """Starts the fetch that a token needs and that is not allowed yet."""
        self._next_fetch_at = math.inf
        self._waiters: set[asyncio.Future[bool]] = set()
        self._first_checked_at: OrderedDict[bytes, float] = OrderedDict()

    @property
    def held_tokens(self) -> int:
        """The number of tokens that wait for a fetch."""
        return len(self._waiters)

    @property
    def is_ready(self) -> bool:
        """Whether a valid set is cached."""
        return bool(self._keys)

    def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Return the keys that may have signed a token with this header. An old set is renewed in the background."""
        if self.is_ready and self._clock.monotonic() - self._fetched_at >= RENEW_AFTER_SECONDS:
            self._start_fetch(PAUSE_SECONDS)
        return find_matching(self._keys, algorithm, kid)

    def is_newer_than(self, token: str) -> bool:
        """Whether the set is not older than the first check of this token."""
        return self._fetched_since >= self._remember(token)

    async def wait_for_newer(self, kid: str | None, deadline: float) -> None:
        """Wait until the next fetch has ended, which starts as soon as it is allowed for this key id.

        ``deadline`` is a monotonic time.

        Raises:
            KeysStale: The fetch has not ended at ``deadline``, or too many tokens wait.
            KeysUnavailable: The fetch failed.
        """
        self._demand_fetch(kid)
        wait_seconds = deadline - self._clock.monotonic()
        if len(self._waiters) >= MAX_HELD_TOKENS or not await self._fetch_ends_within(wait_seconds):
            allowed_in_seconds = self._allowed_at(kid) - self._clock.monotonic()
            raise KeysStale(_STALE, retry_after_seconds=math.ceil(max(1.0, allowed_in_seconds)))
        if not self._fetch_succeeded:
            raise KeysUnavailable(_UNAVAILABLE)

    async def load(self) -> None:
        """Fetch the set if none is cached, whatever its age.

        Raises:
            KeysUnavailable: The fetch failed.
        """
        if not self.is_ready:
            fetch_task = self._start_fetch(FIRST_PAUSE_SECONDS)
            if fetch_task is not None:
                # Not awaited directly: a caller that is cancelled must not cancel the fetch of the others.
                await asyncio.wait({fetch_task})
        if not self.is_ready:
            raise KeysUnavailable(_UNAVAILABLE)

    def prefetch(self) -> None:
        """Start a fetch if no valid set is cached, unless one is running or the last one started too recently."""
        if not self.is_ready:
            self._start_fetch(FIRST_PAUSE_SECONDS)

    def cancel(self) -> None:
        """Cancel a running fetch and the next one. Their callers get KeysUnavailable."""
        self._cancel_next_fetch()
        if self._fetch_task is not None:
            self._fetch_task.cancel()
        self._fetch_succeeded = False
        self._notify_waiters()

    async def close(self) -> None:
        """Cancel a running fetch, and wait for its end."""
        self.cancel()
        if self._fetch_task is not None:
            await asyncio.gather(self._fetch_task, return_exceptions=True)

    def _remember(self, token: str) -> float:
        """Return when this token was first checked in the last REMEMBER_SECONDS, which may be now."""
        now, digest = self._clock.monotonic(), sha256(token.encode()).digest()
        first = self._first_checked_at.get(digest, -math.inf)
        if now - first > REMEMBER_SECONDS:
            first = now
            self._first_checked_at.pop(digest, None)
            self._first_checked_at[digest] = now
            if len(self._first_checked_at) > MAX_REMEMBERED_TOKENS:
                self._first_checked_at.popitem(last=False)
        return first

    async def _fetch_ends_within(self, seconds: float) -> bool:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        timer = self._schedule.after(max(0.0, seconds), partial(_set_unless_done, ended, False))
        self._waiters.add(ended)
        try:
            return await ended
        finally:
            timer.cancel()
            self._waiters.discard(ended)

    def _notify_waiters(self) -> None:
        for waiter in self._waiters:
            _set_unless_done(waiter, True)

    def _allowed_at(self, kid: str | None) -> float:
        """Return the monotonic time from which a token with this key id may start a fetch."""
        allowed_at = self._fetch_started_at + FIRST_PAUSE_SECONDS
        if not self.is_ready:
            return allowed_at
        kid_allowed_at = self._kids_fetched_at.get(kid, -math.inf) + PAUSE_SECONDS
        return max(allowed_at, self._demanded_at + DEMAND_PAUSE_SECONDS, kid_allowed_at)

    def _demand_fetch(self, kid: str | None) -> None:
        """Start the fetch that a token needs, now or when it is allowed."""
        if self._is_fetching:
            return
        if self.is_ready and len(self._wanted_kids) < MAX_REMEMBERED_KIDS:
            self._wanted_kids.add(kid)
        allowed_at, now = self._allowed_at(kid), self._clock.monotonic()
        if allowed_at <= now:
            self._start_demanded()
        elif allowed_at < self._next_fetch_at:
            self._cancel_next_fetch()
            self._next_fetch_at = allowed_at
            self._next_fetch = self._schedule.after(allowed_at - now, self._start_demanded)

    def _start_demanded(self) -> None:
        self._cancel_next_fetch()
        if self.is_ready:
            self._demanded_at = self._clock.monotonic()
        self._start_fetch(0.0)

    def _cancel_next_fetch(self) -> None:
        if self._next_fetch is not None:
            self._next_fetch.cancel()
        self._next_fetch, self._next_fetch_at = None, math.inf

    def _note_fetched(self, started_at: float) -> None:
        """Note which key ids this fetch was for. A failed one counts for none."""
        for kid in self._wanted_kids:
            self._kids_fetched_at[kid] = started_at
            self._kids_fetched_at.move_to_end(kid)
        self._wanted_kids.clear()
        while len(self._kids_fetched_at) > MAX_REMEMBERED_KIDS:
            self._kids_fetched_at.popitem(last=False)

    @property
    def _is_fetching(self) -> bool:
        return self._fetch_task is not None and not self._fetch_task.done()

    def _start_fetch(self, pause_seconds: float) -> asyncio.Task[None] | None:
        """Return the running fetch or a new one, or None while it is too early for a new one."""
        if self._is_fetching:
            return self._fetch_task
        now = self._clock.monotonic()
        if now - self._fetch_started_at < pause_seconds:
            return None
        self._fetch_started_at = now
        self._fetch_task = asyncio.create_task(self._fetch_keys(now), name="jwks-fetch")
        return self._fetch_task

    async def _fetch_keys(self, started_at: float) -> None:
        self._fetch_succeeded = False
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                text = await self._fetch(self._url)
                # In a thread: the event loop serves others while it reads a large set.
                self._keys = await asyncio.to_thread(read_key_set, text, self._algorithms)
        except Exception as error:  # noqa: BLE001  the outermost edge: after any error the last valid set stays
            _log.warning(
                "jwks.failed",
                issuer=self._issuer,
                error=type(error).__name__,
                reason=str(error),
                kept=len(self._keys),
            )
            return
        else:
            self._fetch_succeeded = True
            self._fetched_since, self._fetched_at = started_at, self._clock.monotonic()
            self._note_fetched(started_at)
            _log.info("jwks.fetched", issuer=self._issuer, keys=len(self._keys))
        finally:
            self._notify_waiters()


def _set_unless_done(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
