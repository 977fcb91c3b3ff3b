"""Where the history had to let go of something before its time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from gateway.domain.messages import Address
from gateway.state.memory.lane import Order, Record


class Gap(NamedTuple):
    """The newest entry that was trimmed; the gap closes when that would have been let go anyway."""

    order: Order
    closes_at: float


class Gaps:
    """A marker for each address from which something was trimmed, at most ``max_gaps`` of them.

    What has no marker of its own because there were too many counts as trimmed for every address: a client is told
    of a gap that it may not have, never the other way round.
    """

    def __init__(self, *, age_seconds: float, max_gaps: int) -> None:
        self._age_seconds = age_seconds
        self._max_gaps = max_gaps
        self._by_address: OrderedDict[Address, Gap] = OrderedDict()
        self._everywhere: Gap | None = None

    def __len__(self) -> int:
        return len(self._by_address)

    def mark(self, record: Record, now: float) -> None:
        """A record was trimmed; records come in their order."""
        gap = Gap(record.order, record.accepted_at + self._age_seconds)
        if gap.closes_at <= now:
            return
        for address in record.addresses:
            self._by_address[address] = gap
            self._by_address.move_to_end(address)
        self._shrink(now)

    def after(self, order: Order, addresses: Collection[Address], now: float) -> bool:
        """Whether something newer than a position was trimmed for any of the addresses."""
        gaps = [self._everywhere, *(self._by_address.get(address) for address in addresses)]
        return any(gap is not None and gap.order > order and gap.closes_at > now for gap in gaps)

    def close(self, now: float, *, at_most: int) -> None:
        """Forget gaps that are closed."""
        while at_most > 0 and self._by_address and next(iter(self._by_address.values())).closes_at <= now:
            self._by_address.popitem(last=False)
            at_most -= 1

    def _shrink(self, now: float) -> None:
        while len(self._by_address) > self._max_gaps:
            _, gap = self._by_address.popitem(last=False)
            if gap.closes_at > now:
                self._everywhere = gap
