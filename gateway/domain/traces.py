"""The trace that a message belongs to: W3C Trace Context, as far as the gateway keeps it.

https://www.w3.org/TR/trace-context-2/: ``traceparent`` alone; ``tracestate`` is dropped, which §3.3 allows.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
_KNOWN_FLAGS: Final = SAMPLED | RANDOM
_VERSION_CHARACTERS: Final = 55
"""The length of a traceparent of version 00; those of later versions begin like it (§4.1)."""
_FORM: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]*)?", re.ASCII
)


class Trace(NamedTuple):
    """A place in a trace: 32 hex digits of the trace, 16 of the parent span of what happens next, and flags.

    Of the flags only those of level 2 are kept (sampled, random); the others must be 0 (§3.2.2.5).
    """

    trace_id: str
    span_id: str
    flags: int = 0

    @property
    def is_sampled(self) -> bool:
        """Whether the caller that began the trace records it."""
        return bool(self.flags & SAMPLED)


def new_trace() -> Trace:
    """Begin a trace that only the logs of the gateway have: it is not sampled."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8), RANDOM)


def parse_traceparent(text: str) -> Trace | None:
    """Return the trace of a ``traceparent``; None: it is malformed, and counts as not sent (§4.3)."""
    form = _FORM.fullmatch(text)
    if form is None or (form[1] == "00" and len(text) != _VERSION_CHARACTERS):
        return None
    return Trace(form[2], form[3], int(form[4], 16) & _KNOWN_FLAGS)


def find_trace(headers: Sequence[str]) -> Trace | None:
    """Return the trace of the ``traceparent`` headers of a request; several count as none (§3.2.1)."""
    return parse_traceparent(headers[0]) if len(headers) == 1 else None


def format_traceparent(trace: Trace) -> str:
    """Format the trace as version 00 of ``traceparent``."""
    return f"00-{trace.trace_id}-{trace.span_id}-{trace.flags:02x}"
