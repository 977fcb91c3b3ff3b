"""The commands that the user of Redis must be allowed to execute (examples/redis/users.acl).

One script queries the rights of the user (``redis.acl_check_cmd``, since Redis 7.0). No command is tried out.
"""

from __future__ import annotations

import json
from typing import Final

from gateway.doctor.facts import RedisFacts
from gateway.doctor.findings import Finding, ok, problem, unknown

NAME: Final = "redis.rights"
KEY, CHANNEL = "{key}", "{channel}"

SCRIPT: Final = """#!lua flags=no-writes
local denied = {}
for _, each in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(each.words))
  if not (known and allowed) then denied[#denied + 1] = each.name end
end
return denied"""

_PLAIN: Final = ("eval x 0", "evalsha x 0", "info", "time", "client setname x", "unsubscribe", "wait 0 0")
_CHANNELS: Final = ("publish {channel} x", "subscribe {channel}")
_KEYS: Final = (
    "get {key}", "mget {key}", "set {key} x", "del {key}", "unlink {key}", "exists {key}", "rename {key} {key}",
    "pexpire {key} 1", "hget {key} x", "hset {key} x x", "hsetnx {key} x x", "hmget {key} x", "hdel {key} x",
    "hlen {key}", "hkeys {key}", "hgetall {key}", "hexists {key} x", "hincrby {key} x 1", "hscan {key} 0",
    "sadd {key} x", "scard {key}", "sismember {key} x", "rpush {key} x", "lpop {key}", "lindex {key} 0",
    "lset {key} 0 x", "lrem {key} 1 x", "llen {key}", "lrange {key} 0 1", "ltrim {key} 0 1", "xadd {key} * x x",
    "xrange {key} - +", "xrevrange {key} + -", "xtrim {key} maxlen 1", "xdel {key} 1-0",
    "zadd {key} 1 x", "zrem {key} x", "zscore {key} x", "zmscore {key} x", "zrangebyscore {key} 0 1",
    "zrangebylex {key} - +", "zlexcount {key} - +",
    "zcount {key} 0 1", "decr {key}", "hvals {key}", "strlen {key}",
    "zremrangebyscore {key} 0 1", "zcard {key}", "zrange {key} 0 1", "zrevrangebyscore {key} 1 0",
    "incrby {key} 1", "decrby {key} 1",
)  # fmt: skip


def _name(words: str) -> str:
    command, *rest = words.split(" ")
    return f"{command}|{rest[0]}" if command == "client" else command


ON_KEYS: Final = tuple(map(_name, _KEYS))
ON_CHANNELS: Final = tuple(map(_name, _CHANNELS))
NEEDED: Final = (*map(_name, _PLAIN), *ON_CHANNELS, *ON_KEYS)
"""Every command that the gateway and its scripts use, as in users.acl."""


def acl_query(prefix: str) -> str:
    """Return the argument of the script."""
    names = {KEY: f"{prefix}:doctor", CHANNEL: f"{prefix}:to:doctor"}
    return json.dumps(
        [
            {"name": _name(words), "words": [names.get(word, word) for word in words.split(" ")]}
            for words in (*_PLAIN, *_CHANNELS, *_KEYS)
        ]
    )


def check(redis: RedisFacts, prefix: str, *, waits: bool = False) -> Finding:
    """Check that the user may execute every command of the gateway; WAIT only if the gateway ``waits``."""
    if redis.denied is None:
        return unknown(
            NAME,
            "The rights of this user could not be queried.",
            "Compare its rights with examples/redis/users.acl.",
        )
    denied = tuple([name for name in redis.denied if waits or name != "wait"])
    if not denied:
        return ok(NAME, f"The user may use all {len(NEEDED)} commands that the gateway needs.")
    return problem(
        NAME,
        f"The user lacks rights: {', '.join(_summary(denied, prefix))}.",
        "Grant them with ACL SETUSER; examples/redis/users.acl has a user with exactly the necessary rights.",
    )


def _summary(denied: tuple[str, ...], prefix: str) -> list[str]:
    """Return the missing rights. If every command on keys or channels is denied, the pattern is missing."""
    missing = set(denied)
    summary = []
    for commands, pattern in ((ON_KEYS, f"keys ~{prefix}:*"), (ON_CHANNELS, f"channels &{prefix}:*")):
        if missing.issuperset(commands):
            summary.append(pattern)
            missing.difference_update(commands)
    return summary + [f"+{name}" for name in denied if name in missing]
