"""Which handshakes are let in: there is room, they do not come too fast, the gateway is not leaving."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.ports import Clock
from gateway.transport.address_rates import AddressRates
from gateway.transport.errors import HandshakeError, unavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionLimits:
    """None is off. Newcomers are those who joined no namespace yet."""

    max_connections: int | None = None
    max_newcomers: int | None = None
    connects_per_second: float | None = None
    connects_per_second_and_address: float | None = None


class Admission:
    """Decides on each new session before anything is kept of it."""

    def __init__(
        self,
        clock: Clock,
        limits: AdmissionLimits,
        *,
        open_now: Callable[[], int],
        newcomers_now: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._open_now = open_now
        self._newcomers_now = newcomers_now
        self._tokens = max(1.0, limits.connects_per_second or 0.0)
        self._refilled_at = clock.monotonic()
        by_address = limits.connects_per_second_and_address
        self._addresses = None if by_address is None else AddressRates(clock, by_address)
        self.draining = False

    def decide(self, address: str) -> HandshakeError | None:
        """The refusal, or None: come in. Who is refused takes nothing from any rate."""
        refusal = self._look_for_room() or self._look_at_rates(address)
        if refusal is None:
            self._tokens -= 1
            if self._addresses is not None:
                self._addresses.take(address)
        return refusal

    def _look_for_room(self) -> HandshakeError | None:
        limits = self._limits
        if self.draining:
            return unavailable("draining", "this replica is shutting down", 1)
        if limits.max_connections is not None and self._open_now() >= limits.max_connections:
            return unavailable("full", "this replica is full", 5)
        if limits.max_newcomers is not None and self._newcomers_now() >= limits.max_newcomers:
            return unavailable("newcomers", "too many clients have not shown a token yet", 5)
        return None

    def _look_at_rates(self, address: str) -> HandshakeError | None:
        addresses, rate = self._addresses, self._limits.connects_per_second
        if addresses is not None and not addresses.allow(address):
            return unavailable(
                "address_rate",
                "too many clients connect from this address",
                math.ceil(addresses.seconds_each),
            )
        if rate is not None and not self._has_token(rate):
            return unavailable("rate", "too many clients connect at once", math.ceil(1 / rate))
        return None

    def _has_token(self, rate: float) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._refilled_at) * rate)
        self._refilled_at = now
        return self._tokens >= 1
