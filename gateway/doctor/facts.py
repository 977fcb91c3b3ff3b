"""What is known before anybody judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONFIGURED: Final = (
    "client-output-buffer-limit",
    "min-replicas-to-write",
    "save",
    "appendfsync",
    "stop-writes-on-bgsave-error",
)
"""What only CONFIG tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What the settings ask of Redis and of the host."""

    max_connections: int
    polling: bool
    history_bytes: int
    history_length: int
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Unreached:
    """Redis could not be asked. ``refused``: it answered, and lets nobody in with these credentials."""

    reason: str
    rejection: bool = False


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is under the prefix, as far as a few questions tell.

    ``head`` and ``newest`` say whether the head of the log and its newest entry can be read; None where there is none.
    ``formats`` are the newest record formats that living replicas read.
    """

    head: bool | None = None
    newest: bool | None = None
    formats: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a Redis said of itself.

    ``info`` is None where INFO is forbidden; ``config`` lacks what CONFIG did not tell. ``denied`` are commands that
    the user may not use, None where that could not be asked. ``round_trips`` are in seconds; ``ahead_seconds`` is how
    far its clock is ahead of ours, ``unsure_seconds`` how far that may be wrong.
    """

    info: Mapping[str, str] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    denied: tuple[str, ...] | None = None
    round_trips: tuple[float, ...] = ()
    skew_seconds: float | None = None
    skew_error: float = 0.0
    data: DataFacts | None = None

    def text(self, name: str) -> str | None:
        """A line of INFO; None where it is not there."""
        return None if self.info is None else self.info.get(name)

    def number(self, name: str) -> int | None:
        """A line of INFO that is a number."""
        text = self.text(name)
        return int(text) if text is not None and text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class SentinelFacts:
    """What each Sentinel calls the primary, by where the Sentinel is; None for one that does not answer or know it."""

    primaries: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the system allows a gateway that is started as this process was. ``open_files`` is the limit once ``serve``
    has raised it; ``backlog`` is None where it is not known."""

    open_files: int
    backlog: int | None
