"""Signals that are received before the event loop can act on them.

Importing the gateway takes most of a second. Without a handler, the kernel drops signals to the first process of a
container (pid_namespaces(7)), and an orchestrator would wait for its whole grace period. Elsewhere they kill the
process at once.
"""

from __future__ import annotations

import signal
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_deferred: list[int] = []


def defer() -> None:
    """Only record these signals from now on."""
    for number in SIGNALS:
        signal.signal(number, lambda received, _frame: _deferred.append(received))


def drain() -> list[int]:
    """Return the recorded signals in order, and forget them."""
    received, _deferred[:] = list(_deferred), []
    return received
