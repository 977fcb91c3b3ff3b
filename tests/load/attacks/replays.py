"""Signed requests that an attacker has read, sent again byte for byte.

Before: a request that was signed 250 s ahead was accepted a second time after a restart without Redis, and after a
FLUSHALL. So was any request when the clock of Redis was set back by an hour.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from http import HTTPStatus

from tests.load.attacks.wire import encode_request, send, status_of
from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess

KEPT = 100
"""Captured requests that are sent again."""
AGES_SECONDS = (0, 100, 290)
_TARGET = "/emit/user/replayed"
_BODY = json.dumps({"event": "replayed", "data": 1}).encode()


class CapturedRequests:
    """Requests of one backend, whose clock is ahead by some seconds, and how often each was accepted."""

    def __init__(
        self, backend: Backend, *, ahead_seconds: float = 0.0, now: Callable[[], float] = time.time
    ) -> None:
        self._backend = backend
        self._ahead_seconds = ahead_seconds
        self._now = now
        self._requests: deque[bytes] = deque(maxlen=KEPT)
        self._accepted: Counter[bytes] = Counter()

    @property
    def accepted_again(self) -> int:
        """The number of requests that were accepted more than once."""
        return sum(times > 1 for times in self._accepted.values())

    async def push(self, *, age_seconds: float = 0.0) -> int:
        """Sign and send a new request; return its status."""
        signed_at = int(self._now() + self._ahead_seconds - age_seconds)
        headers = self._backend.sign("POST", _TARGET, _BODY, timestamp=signed_at)
        request = encode_request("POST", _TARGET, headers | {"Content-Type": "application/json"}, _BODY)
        self._requests.append(request)
        return await self._send(request)

    async def send_again(self) -> Counter[int]:
        """Send the captured requests again; return how many had which status."""
        return Counter([await self._send(request) for request in tuple(self._requests)])

    async def _send(self, request: bytes) -> int:
        status = status_of(await send(self._backend.url, [request]))
        self._accepted[request] += status == HTTPStatus.OK
        return status


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Push now and then, and send what was pushed again and again, until the event is set."""
    captured = CapturedRequests(gateway.backend)
    while not until.is_set():
        for age_seconds in AGES_SECONDS:
            await captured.push(age_seconds=age_seconds)
        await captured.send_again()
    assert captured.accepted_again == 0
