"""The stream of messages of all replicas: appending, subscribing, reading again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from gateway.domain import positions
from gateway.domain.claims import Claim
from gateway.domain.errors import DATA_LOST
from gateway.domain.messages import Address, Entry, Kick, Receipt, count_is_exact, is_volatile, json_bytes
from gateway.domain.positions import Position
from gateway.ports import Deliver, Page
from gateway.state.redis.channels import Channels
from gateway.state.redis.claims import RedisClaims, arguments_of
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.errors import Unanswered
from gateway.state.redis.keys import Keys, address_name
from gateway.state.redis.listening import Listening
from gateway.state.redis.records import INLINE_BYTES, Codec, Unreadable, decode_receipt

_YES_NO: Final = ("0", "1")


class RedisBroker:
    """``gateway.ports.Broker``. Accepting an entry is one script: that is what makes it atomic."""

    def __init__(
        self,
        *,
        commands: Commands,
        channels: Channels,
        listening: Listening,
        claims: RedisClaims,
        keys: Keys,
        codec: Codec,
    ) -> None:
        self._commands = commands
        self._channels = channels
        self._listening = listening
        self._claims = claims
        self._keys = keys
        self._codec = codec
        self._head = keys.named("head")

    async def append(self, entry: Entry, claim: Claim | None = None) -> Receipt:
        exact = count_is_exact(entry)
        arguments = self._arguments(entry, exact, claim)
        status, *details = await self._commands.call("append", *arguments, refuse=self._claims.refuse)
        if status == b"OK":
            position, connections = details
            return Receipt(entry.id, Position(position.decode()), connections, exact)
        try:
            return decode_receipt(details[0])
        except Unreadable as error:
            raise Unanswered("Redis holds a receipt that this release cannot read") from error

    def _arguments(self, entry: Entry, exact: bool, claim: Claim | None) -> list[Argument]:
        record = self._codec.encode(entry)
        addresses = entry.addresses
        # A replica that subscribed all of them gets a copy from each channel.
        notice = b"" if len(record) * len(addresses) <= INLINE_BYTES else self._codec.notice(entry)
        revoked, revoked_at = "", ""
        if isinstance(entry, Kick) and entry.revoke:
            revoked, revoked_at = entry.user, repr(entry.at)
        return [
            entry.id,
            record,
            _YES_NO[is_volatile(entry)],
            json_bytes(entry),
            len(record),
            notice,
            _YES_NO[exact],
            revoked,
            revoked_at,
            *arguments_of(claim),
            *map(address_name, addresses),
        ]

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        channels = [self._keys.channel(address) for address in addresses]
        # They stay wanted if this fails: others may be waiting for the same. Who does not need them says so.
        self._listening.want(channels)
        await self._channels.subscribe(channels)
        # Read after the confirmation: whatever comes after this position comes on the channels.
        generation, newest = await self._where_log_ends()
        self._listening.wanted_since(channels, generation, newest)
        return newest

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        channels = [self._keys.channel(address) for address in addresses]
        self._listening.forget(channels)
        self._channels.unsubscribe(channels)

    async def listen(self, deliver: Deliver) -> None:
        await self._listening.run(deliver)

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        positions.parse(after)
        names = map(address_name, addresses)
        upto, more, gap, found = await self._commands.call("history", after, max_entries, max_bytes, *names)
        entries, unreadable = self._read_entries(found)
        if unreadable:
            gap = DATA_LOST.encode()
        return Page(entries, Position(upto.decode()), bool(more), gap.decode() if gap else None)

    def _read_entries(self, found: list[bytes]) -> tuple[tuple[tuple[Position, Entry], ...], bool]:
        entries: list[tuple[Position, Entry]] = []
        unreadable = False
        for position, record in zip(found[::2], found[1::2], strict=True):
            try:
                entries.append((Position(position.decode()), self._codec.decode_entry(record)))
            except Unreadable:
                unreadable = True
        return tuple(entries), unreadable

    async def newest(self) -> Position:
        return (await self._where_log_ends())[1]

    async def _where_log_ends(self) -> tuple[str, Position]:
        """The generation of the log, and the newest position there."""
        head: Any = await self._commands.read("GET", self._head)
        if head is None:
            # Whoever is told a position before there is a log could not be told from who has seen another one.
            begun = await self._commands.call("where")
            return begun[0].decode(), Position(begun[1].decode())
        generation, _, _, newest, _ = head.decode().split(" ", 4)  # scripts/common.lua
        return generation, Position(newest)
