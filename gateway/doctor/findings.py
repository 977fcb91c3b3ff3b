"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: a problem keeps the gateway from working, a warning will hurt one day."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence of what is, and one of what to do about it, empty where there is nothing to do.

    ``name`` is stable: scripts may rely on it.
    """

    name: str
    level: Level
    what: str
    remedy: str = ""


def ok(name: str, what: str, remedy: str = "") -> Finding:
    """All is well."""
    return Finding(name, Level.OK, what, remedy)


def warning(name: str, what: str, remedy: str) -> Finding:
    """It works, and will not in a situation that comes sooner or later."""
    return Finding(name, Level.WARNING, what, remedy)


def problem(name: str, what: str, remedy: str) -> Finding:
    """It does not work, or not as it must."""
    return Finding(name, Level.PROBLEM, what, remedy)


def unknown(name: str, what: str, remedy: str) -> Finding:
    """It could not be looked at."""
    return Finding(name, Level.UNKNOWN, what, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """The verdict: what could not be looked at weighs less than a warning."""
    order = [Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM]
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def size(number_of_bytes: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number_of_bytes >= factor:
            return f"{number_of_bytes / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{number_of_bytes} bytes"
