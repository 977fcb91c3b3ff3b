"""Signals that come before the process can act on them.

Importing the gateway takes most of a second. Until there is a handler, the kernel drops signals to the first process of
a container (pid_namespaces(7)), so that an orchestrator would wait for its whole patience; elsewhere they kill at once.
"""

from __future__ import annotations

import signal
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_deferred: list[int] = []


def defer() -> None:
    """From now on these signals do nothing but wait to be taken."""
    for number in SIGNALS:
        signal.signal(number, lambda came, _frame: _deferred.append(came))


def drain() -> list[int]:
    """Those that came, in order; nobody gets them a second time."""
    came, _deferred[:] = list(_deferred), []
    return came
