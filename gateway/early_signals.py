"""Signals that come before the process can act on them.

Importing the gateway takes most of a second. Until there is a handler, the kernel drops signals to the first process of
a container (pid_namespaces(7)), so that an orchestrator would wait for its whole patience; elsewhere they kill at once.
"""

from __future__ import annotations

import signal
from typing import Final

NUMBERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_came: list[int] = []


def remember() -> None:
    """From now on these signals do nothing but wait to be taken."""
    for number in NUMBERS:
        signal.signal(number, lambda came, _frame: _came.append(came))


def take() -> list[int]:
    """Those that came, in order; nobody gets them a second time."""
    came, _came[:] = list(_came), []
    return came
