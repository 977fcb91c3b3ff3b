"""Replies of this replica to itself."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.messages import Reply


class MemoryReplies:
    """Satisfies ``gateway.interfaces.Replies``: the only replica is this one."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self._waiting: dict[str, Callable[[Reply], None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, entry_id: str, on_reply: Callable[[Reply], None]) -> None:
        self._waiting[entry_id] = on_reply

    def forget(self, entry_id: str) -> None:
        self._waiting.pop(entry_id, None)

    async def send(self, replica: str, entry_id: str, content: str) -> None:
        if replica == self.replica and (on_reply := self._waiting.get(entry_id)) is not None:
            on_reply(Reply(entry_id, self.replica, content))
