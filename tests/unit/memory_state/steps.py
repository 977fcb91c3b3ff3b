"""Run an operation of the memory state without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def result_of(operation: Coroutine[Any, Any, T]) -> T:
    """Return the result of an operation that does not wait."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("an operation of the memory state waited")
