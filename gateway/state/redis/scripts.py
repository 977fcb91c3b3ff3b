"""Assemble the scripts of lua/ with the names of keys (``K.log``) and limits (``L.age``). Redis caches them by digest.

Every change of the state is one script, so it happens whole or not at all. Scripts build the names of keys themselves:
this layout is for one Redis (with or without replicas and Sentinel), not for Cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha1
from importlib import resources
from typing import Final, NamedTuple

from gateway.state.redis.redis_keys import RedisKeys

_READS: Final = "#!lua flags=no-writes"
_WRITES: Final = "#!lua"
_FREES: Final = "#!lua flags=allow-oom"
"""The first line of a script decides what Redis checks before it begins, so a rejected script has changed nothing.
Scripts that need no more memory, or free some, also run at the memory limit (Redis, "Eval scripts", Script flags)."""

_CLOCK: Final = "clock"
_DEADLINE: Final = "deadline"
_PARTS: Final = {
    "append": (_WRITES, _CLOCK),
    "append_copies": (_WRITES, "common", _DEADLINE),
    "remove_kept": (_FREES, "common", "offline_queue", _DEADLINE),
    "erase_kept": (_FREES, "common", "offline_queue", _DEADLINE),
    "consume_nonce": (_WRITES, "common", "dedup", _DEADLINE),
    "raise_floors": (_FREES, "common", _DEADLINE),
    "rate_limit": (_WRITES, "common", _DEADLINE),
    "claim_ack": (_WRITES, "common", "user_acks", _DEADLINE),
    "keep_ack": (_WRITES, "common", "user_acks", _DEADLINE),
    "release_ack": (_FREES, "common", "user_acks", _DEADLINE),
    "history": (_READS, "common", "erased"),
    "newest": (_READS, "common"),
    "erase": (_WRITES, "common", _DEADLINE),
    "resync": (_READS, "common", "erased"),
    "find_loss": (_READS, "common", "erased"),
    "register_server": (_FREES, "common"),
    "head": (_FREES, "common", _DEADLINE),
    "publish_probe": (_FREES, "common", _DEADLINE),
    "publish_reply": (_FREES, "common", _DEADLINE),
    "write_probe": (_WRITES,),
    "heartbeat": (_FREES, "common", "move_sessions", _DEADLINE),
    "register": (_WRITES, "common", "user_states", "lists", "registry", "registration", _DEADLINE),
    "connect": (
        _WRITES,
        "common",
        "user_states",
        "lists",
        "registry",
        "registration",
        "sessions",
        _DEADLINE,
    ),
    "change_rooms": (_WRITES, "common", "user_states", "lists", "registry", _DEADLINE),
    "change_memberships": (
        _WRITES,
        "common",
        "user_states",
        "lists",
        "registry",
        "sessions",
        _DEADLINE,
    ),
    "change_parked": (_WRITES, "common", _DEADLINE),
    "update_transport": (_WRITES, "common", _DEADLINE),
    "disconnect": (_FREES, "common", "user_states", "lists", "registry", "sessions", "parked", _DEADLINE),
    "refresh_ttl": (_FREES, "common", _DEADLINE),
    "acquire_lease": (_WRITES, "common", "move_sessions", _DEADLINE),
    "reap_replica": (_FREES, "common", "user_states", "lists", "registry", _DEADLINE),
    "release_lease": (_FREES, "common", _DEADLINE),
    "presence": (_READS, "common"),
    "visible_rooms": (_READS, "common"),
    "has_sid": (_READS, "common"),
    "sweep": (_FREES, "common", "user_states", "living_users", _DEADLINE),
    "audit": (_FREES, "common", "user_states", "living_users", _DEADLINE),
    "touch_users": (_WRITES, "common", "user_states", "living_users", _DEADLINE),
    "undelivered": (_READS, "common", "user_states", "living_users"),
    "undelivered_counts": (_READS, "common"),
    "delivered": (_FREES, "common", "user_states", _DEADLINE),
    "postpone": (_FREES, "common", "user_states", _DEADLINE),
    "list_names": (_FREES, "common", "connection_records", _DEADLINE),
    "list_connections": (_FREES, "common", "connection_records", _DEADLINE),
    "read_connection": (_READS, "common", "connection_records"),
    "replace_data": (_WRITES, "common", "connection_records", _DEADLINE),
    "room_summary": (_READS, "common", "connection_records"),
    "stats": (_READS, "common", "connection_records"),
    "user_list": (_READS, "common", "lists"),
    "list_version": (_FREES, "common", "lists", _DEADLINE),
    "save_session": (_WRITES, "common", "sessions", _DEADLINE),
    "change_session": (_WRITES, "common", "sessions", _DEADLINE),
    "resume_session": (
        _WRITES,
        "common",
        "user_states",
        "lists",
        "registry",
        "sessions",
        "parked",
        "erased",
        _DEADLINE,
    ),
    "claim_partitions": (_FREES, "common", "owners", _DEADLINE),
    "release_partitions": (_FREES, "common", "owners", _DEADLINE),
    "read_queue": (_FREES, "common", "owners", "queues", _DEADLINE),
    "remove_notifications": (_FREES, "common", "owners", "queues", "dead", _DEADLINE),
    "record_failure": (_FREES, "common", "owners", "queues", _DEADLINE),
    "dead_letters": (_READS, "common", "owners", "queues", "dead"),
    "take_dead_letters": (_FREES, "common", "owners", "queues", "dead", _DEADLINE),
    "summarize_queue": (_READS, "common", "owners", "queues", "dead"),
}
"""Each script: its first line, and the files that precede it in the text; ``clock`` precedes ``common``."""


_INCLUDE: Final = re.compile(r"^ *--#include (\w+)$", re.MULTILINE)
"""Stands for another file inside a function, which then creates the functions of that file only where it is called."""
_CONSTANT: Final = re.compile(r"\b[KL]\.[a-z_]+")


class Script(NamedTuple):
    """A script and the digest by which Redis knows it."""

    name: str
    text: bytes
    digest: bytes


def load_scripts(keys: RedisKeys, limits: Mapping[str, int | bool]) -> dict[str, Script]:
    """Assemble every script, by name, for the keys of one prefix. ``limits`` are the members of ``L``."""
    values = {f"L.{name}": str(value).lower() for name, value in limits.items()}
    values |= {f"K.{name}": f'"{key}"' for name, key in keys.all().items()}
    scripts = {}
    for name, (flags, *parts) in _PARTS.items():
        if "common" in parts:
            parts.insert(0, _CLOCK)
        body = "\n".join(_read(part) for part in (*parts, name))
        # Written into the text as constants: every call would build tables of them anew.
        text = f"{flags}\n{_CONSTANT.sub(lambda found: values[found[0]], body)}".encode()
        digest = sha1(text, usedforsecurity=False).hexdigest().encode()
        scripts[name] = Script(name, text, digest)
    return scripts


def _read(name: str) -> str:
    text = resources.files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: _read(found[1]), text)
