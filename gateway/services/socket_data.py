"""Change the socket data of connections, here and on other replicas."""

from __future__ import annotations

import asyncio
from typing import Final, cast
from weakref import WeakValueDictionary

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import DataChange, new_id
from gateway.domain.socket_data import (
    ChangeData,
    DataTooLarge,
    SocketData,
    StoredData,
    encode_data,
    merge_members,
    merge_patch,
)
from gateway.hub import Connection
from gateway.interfaces import Broker, Listings, SocketDataStore

_TRIES: Final = 20
"""How often a change is made anew because another replica changed the data first."""

log = structlog.get_logger(__name__)


class SocketDataChanges:
    """Changes socket data in the shared state first, each change on top of all before."""

    def __init__(self, *, store: SocketDataStore, listings: Listings, broker: Broker) -> None:
        self._store = store
        self._listings = listings
        self._broker = broker
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Changes of one connection by this replica are made one after the other, in their order."""

    async def patch(self, sid: str, patch: SocketData) -> str | None:
        """Apply a JSON merge patch to the data of a connection on any replica; return the text of all of its data.

        None: no such connection is open. The replica of the connection learns of it through the broker. A repeat does
        no harm.

        Raises: DataTooLarge; ValueError for an infinite number; BrokerUnavailable, BrokerTimeout: it may have happened
            in part, and a repeat makes it whole.
        """

        def change(data: SocketData) -> SocketData:
            merged = merge_patch(data, patch)
            return cast("SocketData", merged)  # a patch that is an object makes an object

        found = await self._listings.connection(sid)
        stored = None if found is None else await self._change(sid, found.stored, change)
        if found is None or stored is None:
            return None
        namespace = found.connection.namespace
        await self._broker.append(DataChange(new_id(), namespace, sid, stored.version, stored.text))
        return stored.text

    async def set_members(self, connection: Connection, members: SocketData) -> None:
        """Set members of the data of a connection of this replica; those that are null are removed.

        A state that is away gets it later. Raises nothing.
        """

        def change(data: SocketData) -> SocketData:
            return merge_members(data, members)

        try:
            before = connection.stored_data
            # Here at once: what the client sends next is handled with it.
            connection.change_data(StoredData(before.version + 1, encode_data(change(before.data))))
            stored = await self._change(connection.sid, before, change, is_here=True)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.warning("socket_data.write_failed", sid=connection.sid, code=error.code)
        except DataTooLarge:
            # The answer was checked with the data that the connection had here; a backend changed it meanwhile.
            log.warning("socket_data.too_large", sid=connection.sid)
        else:
            if stored is not None:
                connection.change_data(stored)

    async def _change(
        self, sid: str, stored: StoredData, change: ChangeData, *, is_here: bool = False
    ) -> StoredData | None:
        """Raises: as ``patch`` does."""
        lock = self._locks.setdefault(sid, asyncio.Lock())
        async with lock:
            return await self._replace(sid, stored, change, is_here=is_here)

    async def _replace(
        self, sid: str, stored: StoredData, change: ChangeData, *, is_here: bool
    ) -> StoredData | None:
        expected = stored.version
        for _ in range(_TRIES):
            text = encode_data(change(stored.data))
            answer = await self._store.replace(sid, text, expected=expected, is_here=is_here)
            if answer is None:
                return None
            is_replaced, found = answer
            if is_replaced:
                return found
            expected = found.version
            # What could not be written before is newer than what the state has.
            stored = max(stored, found)
        raise BrokerUnavailable("the socket data of the connection is changed too often")
