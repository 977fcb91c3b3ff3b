"""Which connections of this replica an entry is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from gateway.domain.dedup import Repeats
from gateway.domain.messages import Address, LogEntry, Message, repeat_digest
from gateway.hub.connection import Connection
from gateway.hub.fan_out import STEP
from gateway.hub.receipts import Receipts

Members = dict[Connection, None]
"""The connections at an address."""
NO_MEMBERS: Final[Members] = {}
_MembersByAddress = Mapping[tuple[str, str | None], Members]
_Pause = Callable[[], Awaitable[None]]
"""Yields to the event loop once deliveries have used up their part of a turn."""


async def find_recipients(
    entry: LogEntry, addresses: Collection[Address], by_address: _MembersByAddress, pause_if_due: _Pause
) -> list[Connection]:
    """Return the connections at the addresses that an entry is for, each once."""
    if len(addresses) == 1 and not entry.exclude and not (isinstance(entry, Message) and entry.all_of):
        return [each for address in addresses for each in by_address.get(address, NO_MEMBERS)]
    if isinstance(entry, Message) and entry.all_of:
        recipients = await _in_all_rooms(entry, by_address, pause_if_due)
    else:
        recipients = {}
        for number, address in enumerate(addresses, 1):
            recipients.update(by_address.get(address, NO_MEMBERS))
            if number % STEP == 0 or len(recipients) > number:
                await pause_if_due()
    for name in entry.exclude:
        for namespace in {address.namespace for address in addresses}:
            for connection in by_address.get(Address(namespace, name), NO_MEMBERS):
                recipients.pop(connection, None)
        await pause_if_due()
    return list(recipients)


async def _in_all_rooms(message: Message, by_address: _MembersByAddress, pause_if_due: _Pause) -> Members:
    """Return the connections in each room of ``all_of`` that are at an address of the message.

    Costs as much as the smallest of the rooms of ``all_of`` has connections.
    """
    required, one_of = frozenset(message.all_of), frozenset(message.rooms)
    smallest = min((by_address.get((message.namespace, room), NO_MEMBERS) for room in required), key=len)
    candidates, found = list(smallest), dict[Connection, None]()
    for start in range(0, len(candidates), STEP):
        for each in candidates[start : start + STEP]:
            if required <= each.rooms and (not one_of or not one_of.isdisjoint(each.rooms)):
                found[each] = None
        await pause_if_due()
    return found


def without_repeats(
    message: Message, recipients: Sequence[Connection], repeats: Repeats, receipts: Receipts | None
) -> Sequence[Connection]:
    """Return the recipients that have not got the message as that of an earlier request with its key."""
    digest = repeat_digest(message.id)
    before = repeats.deliver(digest) if digest else -1.0
    if before > 0 and message.ttl_seconds and receipts is not None:
        receipts.had([each for each in recipients if each.live_since < before], message)
    return [each for each in recipients if each.live_since >= before] if before > 0 else recipients
