"""The facts that checks turn into findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONFIG_NAMES: Final = (
    "client-output-buffer-limit",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "save",
    "appendfsync",
    "stop-writes-on-bgsave-error",
)
"""The parameters that only ``CONFIG GET`` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The requirements of the settings for Redis and the host.

    ``webhooks`` are the ids of the configured webhooks, ``notified`` of those that the event catalogue notifies.
    """

    max_connections: int
    polling: bool
    history_bytes: int
    history_length: int
    timeout_seconds: float
    wait_replicas: int = 0
    webhooks: tuple[str, ...] = ()
    notified: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Unreached:
    """Redis could not be queried. ``rejection``: it answered and rejected the credentials."""

    reason: str
    rejection: bool = False


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The records under the prefix, as far as four queries show them.

    ``head_readable`` and ``newest_readable`` state whether this release can read the head of the log and its newest
    entry; None if it does not exist. ``formats`` are the newest record formats that live replicas read, by replica.
    """

    head_readable: bool | None = None
    newest_readable: bool | None = None
    formats: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What the queue of a webhook holds. ``age_seconds`` is for how long the oldest notification waits."""

    entries: int = 0
    bytes: int = 0
    age_seconds: float = 0.0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """The answers of a Redis.

    ``info`` is None if INFO is denied. ``config`` has no parameter that CONFIG did not return. ``denied`` are the
    commands that the user may not execute, None if that could not be queried. ``round_trips`` are in seconds.
    ``skew_seconds`` is positive if the clock of Redis is ahead of ours; its error is at most ``skew_error`` seconds.
    ``queues`` are those of webhooks, by id, as far as they could be read.
    """

    info: Mapping[str, str] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    denied: tuple[str, ...] | None = None
    round_trips: tuple[float, ...] = ()
    skew_seconds: float | None = None
    skew_error: float = 0.0
    data: DataFacts | None = None
    queues: Mapping[str, QueueFacts] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return a line of INFO, or None if it does not exist."""
        return None if self.info is None else self.info.get(name)

    def number(self, name: str) -> int | None:
        """Return a line of INFO as a number, or None if it is not one."""
        text = self.text(name)
        return int(text) if text is not None and text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class SentinelFacts:
    """The address of the primary by address of the Sentinel; None if that Sentinel does not answer or know it."""

    primaries: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The limits of the system for a gateway that is started like this process.

    ``open_files`` is the limit after ``serve`` has raised it. ``backlog`` is None if it is unknown.
    """

    open_files: int
    backlog: int | None
