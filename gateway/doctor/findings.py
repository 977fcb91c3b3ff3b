"""Findings: the results of checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The severity of a finding.

    A problem keeps the gateway from working, a warning becomes one in a situation that will come. Unknown means that
    the check could not read the facts.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the state and one about the remedy, which is empty if none is needed.

    ``name`` is stable: scripts may depend on it.
    """

    name: str
    level: Level
    description: str
    remedy: str = ""


def ok(name: str, description: str, remedy: str = "") -> Finding:
    """Return a finding without a problem."""
    return Finding(name, Level.OK, description, remedy)


def warning(name: str, description: str, remedy: str) -> Finding:
    """Return a finding about a state that works now, and fails in a situation that will come."""
    return Finding(name, Level.WARNING, description, remedy)


def problem(name: str, description: str, remedy: str) -> Finding:
    """Return a finding about a state in which the gateway does not work correctly."""
    return Finding(name, Level.PROBLEM, description, remedy)


def unknown(name: str, description: str, remedy: str) -> Finding:
    """Return a finding of a check that could not read the facts."""
    return Finding(name, Level.UNKNOWN, description, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the highest level of the findings. Unknown is lower than a warning."""
    order = [Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM]
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def size(number_of_bytes: int) -> str:
    """Return a number of bytes with a unit, such as ``1.1 MiB``."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number_of_bytes >= factor:
            return f"{number_of_bytes / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{number_of_bytes} bytes"
