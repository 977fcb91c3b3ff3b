"""The limit of open files, RLIMIT_NOFILE of getrlimit(2). Each connection is an open file."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

_MACOS_MAX: Final = 10_240
"""OPEN_MAX: if the hard limit is "unlimited", macOS rejects that as a soft limit."""


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard limit, as far as the system permits; return the soft limit before and now.

    The soft limit is low because of programs that use select(2), which handles no file above 1023. The gateway does not
    use it. Raises nothing: a limit that cannot be changed stays.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, _MACOS_MAX):
        if _number(before) < _number(wanted):
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
    return _number(before), _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def file_limit() -> int:
    """Return how many files the process may open."""
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _number(limit: int) -> int:
    return 2**63 - 1 if limit == resource.RLIM_INFINITY else limit
