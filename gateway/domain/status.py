"""What a replica can do, as far as the shared state goes.

SUBSCRIPTION_STALLED: the state answers, and what is published does not arrive here. Clients miss messages and should go elsewhere.
UNAVAILABLE: the state does not answer, or takes nothing. No other replica would be better off, so clients stay.
"""

from __future__ import annotations

from enum import StrEnum


class StateStatus(StrEnum):
    """What a replica can do at the moment."""

    HEALTHY = "healthy"
    SUBSCRIPTION_STALLED = "subscription_stalled"
    UNAVAILABLE = "unavailable"
