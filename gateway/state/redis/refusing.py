"""What Redis refuses at the moment, although it answers: said once when it begins, and once when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import structlog

from gateway.domain.errors import GatewayError
from gateway.state.redis.errors import refusal_of

log = structlog.get_logger(__name__)


class Refusals:
    """Of each connection the refusal that lasts, if one does."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self.now: Mapping[str, str] = MappingProxyType(self._now)
        """Connections on which something is refused, and the words of Redis for it (``errors.REFUSALS``)."""

    @property
    def reason(self) -> str:
        """What is refused, as a sentence for people; nothing where nothing is."""
        return "; ".join(
            dict.fromkeys(f"{self._reasons[connection]} ({word})" for connection, word in self._now.items())
        )

    def judge(self, connection: str, problem: GatewayError | None) -> None:
        """What became of the last attempt. A problem that is no refusal ends one too, but Redis takes nothing again."""
        before = self._now.pop(connection, "")
        word = "" if problem is None else refusal_of(problem)
        if problem is not None and word:
            self._now[connection], self._reasons[connection] = word, problem.message
            if word != before:
                log.warning("redis.refuses", connection=connection, code=word, reason=problem.message)
        elif before and problem is None:
            log.info("redis.takes_again", connection=connection, code=before)
