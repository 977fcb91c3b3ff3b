"""The status of a replica, as far as the shared state goes."""

from __future__ import annotations

from enum import StrEnum


class StateStatus(StrEnum):
    """What a replica can do now.

    SUBSCRIPTION_STALLED: the state answers, but published messages do not arrive here. Clients miss messages and should
    connect to another replica.
    UNAVAILABLE: the state does not answer, or rejects every write. No other replica is better off, so clients stay.
    """

    HEALTHY = "healthy"
    SUBSCRIPTION_STALLED = "subscription_stalled"
    UNAVAILABLE = "unavailable"
