"""Waiting for what nothing tells of, such as the answer of another process."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = 15) -> None:
    """Return once it holds; fails with ``what`` did not come to be within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
