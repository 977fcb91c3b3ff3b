"""What is kept under the prefix: four questions, whatever there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.doctor.facts import Kept
from gateway.state.redis.keys import Keys
from gateway.state.redis.records import Codec, Unreadable

Ask = Callable[..., Awaitable[Any]]
HEAD_WORDS: Final = 14
"""scripts/common.lua"""
_NEWEST: Final = 3


async def look_at_records(ask: Ask, keys: Keys) -> Kept | None:
    """The head of the log, its newest entry, and what living replicas read; None where that is forbidden."""
    head = await ask("GET", keys.named("head"))
    formats = await ask("HGETALL", keys.named("formats"))
    now = await ask("TIME")
    if not isinstance(formats, list) or not isinstance(now, list):
        return None
    living = await ask("ZRANGEBYSCORE", keys.named("leases"), f"({int(now[0]) * 1000}", "+inf")
    if not isinstance(living, list):
        return None
    known = {
        name.decode(errors="replace"): value for name, value in zip(formats[::2], formats[1::2], strict=True)
    }
    names = [name.decode(errors="replace") for name in living]
    return Kept(
        head=None if head is None else _is_head(head),
        newest=await _newest(ask, keys, head),
        formats={name: int(known.get(name, b"0")) for name in names if known.get(name, b"0").isdigit()},
    )


def _is_head(head: Any) -> bool:
    return isinstance(head, bytes) and len(head.split()) == HEAD_WORDS


async def _newest(ask: Ask, keys: Keys, head: Any) -> bool | None:
    """Whether the newest entry can be read; None where there is none."""
    if not _is_head(head):
        return None
    position = head.split()[_NEWEST]
    found = await ask("XRANGE", keys.named("log"), position, position)
    if not isinstance(found, list) or not found:
        return None
    fields = found[0][1]
    try:
        Codec().decode_entry(dict(zip(fields[::2], fields[1::2], strict=True))[b"r"])
    except (Unreadable, KeyError):
        return False
    return True
