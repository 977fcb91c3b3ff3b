"""How many files a process may have open, each connection being one: RLIMIT_NOFILE of getrlimit(2)."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

_MACOS_MAX: Final = 10_240
"""OPEN_MAX: where the hard limit is "unlimited", macOS refuses that as a soft one."""


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard one, as far as the system lets; answers the soft limit before and now.

    The soft limit is low for the sake of programs that wait with select(2), which knows no file above 1023: here nobody
    does. Raises nothing: where the limit cannot be changed, it stays.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (most, _MACOS_MAX):
        if _number(before) < _number(wanted):
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
                break
    return _number(before), _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _number(limit: int) -> int:
    return 2**63 - 1 if limit == resource.RLIM_INFINITY else limit
