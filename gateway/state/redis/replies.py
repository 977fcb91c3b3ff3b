"""Replies of replicas to entries, published on the channel of the replica that waits for them."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.messages import Reply
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.redis_keys import RedisKeys


class RedisReplies:
    """Satisfies ``gateway.interfaces.Replies``."""

    def __init__(self, commands: Commands, keys: RedisKeys, *, codec: Codec, replica: str) -> None:
        self.replica = replica
        self._commands = commands
        self._keys = keys
        self._codec = codec
        self._waiting: dict[str, Callable[[Reply], None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, entry_id: str, on_reply: Callable[[Reply], None]) -> None:
        self._waiting[entry_id] = on_reply

    def forget(self, entry_id: str) -> None:
        self._waiting.pop(entry_id, None)

    async def send(self, replica: str, entry_id: str, content: str) -> None:
        if replica == self.replica:
            self.receive(Reply(entry_id, replica, content))
            return
        record = self._codec.reply(Reply(entry_id, self.replica, content))
        await self._commands.call("publish_reply", self._keys.probe(replica), record)

    def receive(self, reply: Reply) -> None:
        """Pass a reply that was received to what waits for it."""
        on_reply = self._waiting.get(reply.entry_id)
        if on_reply is not None:
            on_reply(reply)
