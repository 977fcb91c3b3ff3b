"""What a replica can do, as far as the shared state goes.

DEAF: the state answers, and what is published does not arrive here. Clients miss messages and should go elsewhere.
AWAY: the state does not answer, or takes nothing. No other replica would be better off, so clients stay.
"""

from __future__ import annotations

from enum import StrEnum


class Condition(StrEnum):
    """What a replica can do at the moment."""

    HEARING = "hearing"
    DEAF = "deaf"
    AWAY = "away"
