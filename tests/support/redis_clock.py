"""Move the clock that a Redis state reads: a test cannot set the clock of a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from hashlib import sha1

from gateway.state.redis import RedisState
from gateway.state.redis.commands import Commands
from gateway.state.redis.scripts import Script

_SHIFT = re.compile(rb"(?<=/ 1000\) \+ )-?\d+$", re.MULTILINE)
"""The constant ``L.shift`` of lua/common.lua, in milliseconds, as it stands in an assembled script."""


def shift_clock(state: RedisState, seconds: float) -> None:
    """Make the clock that the scripts of a state read later by ``seconds``, and the clock offset of the state."""
    shift_ms = int(seconds * 1000)
    state.commands.scripts = {
        name: _shifted(script, shift_ms) for name, script in state.commands.scripts.items()
    }
    shift_clock_offset(state.commands, seconds)


def shift_clock_offset(commands: Commands, seconds: float) -> None:
    """Make later by ``seconds`` what the commands take for the clock of Redis."""
    commands.set_clock(commands.redis_ms() + seconds * 1000, asyncio.get_running_loop().time())


def read_shift_from(state: RedisState, key: str) -> None:
    """Make the scripts of a state read from a key by how many milliseconds their clock is later.

    A test that moves the clock often needs no new scripts. ``shift_clock`` does not work afterwards.
    """
    expression = f"tonumber(call('GET', '{key}') or 0)".encode()
    state.commands.scripts = {
        name: _with_shift(script, lambda _: expression) for name, script in state.commands.scripts.items()
    }


def _shifted(script: Script, shift_ms: int) -> Script:
    return _with_shift(script, lambda known: b"%d" % (int(known[0]) + shift_ms))


def _with_shift(script: Script, shift: Callable[[re.Match[bytes]], bytes]) -> Script:
    text, found = _SHIFT.subn(shift, script.text)
    assert found == (b"local function now_ms" in text), f"{script.name}.lua reads the clock in another way"
    return Script(script.name, text, sha1(text, usedforsecurity=False).hexdigest().encode())
