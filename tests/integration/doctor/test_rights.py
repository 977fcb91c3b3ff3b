"""What the doctor asks for is what the gateway uses and what the example grants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.doctor import rights
from gateway.doctor.findings import Level
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.scripts import load_scripts
from tests.integration.doctor.cases import having
from tests.support.paths import ROOT

NOT_ASKED = {"select"}
"""Needed for a database other than 0 only, and then nothing answers without it."""


def test_it_looks_for_what_the_scripts_use() -> None:
    folder = ROOT / "gateway/state/redis/lua"
    used = {
        name.lower()
        for script in folder.glob("*.lua")
        for name in re.findall(r"\bcall\('(\w+)'", script.read_text("utf-8"))
    }

    assert load_scripts(RedisKeys("p"), dict.fromkeys(_limits(folder), 1))
    assert used - set(rights.NEEDED) == set()


def _limits(folder: Path) -> set[str]:
    return {
        name
        for script in folder.glob("*.lua")
        for name in re.findall(r"\bL\.(\w+)", script.read_text("utf-8"))
    }


def test_it_looks_for_what_the_example_grants() -> None:
    (line,) = [
        line
        for line in (ROOT / "examples/redis/users.acl").read_text("utf-8").splitlines()
        if line.startswith("user ")
    ]
    granted = {word.removeprefix("+") for word in line.split() if word.startswith("+")}

    assert granted - NOT_ASKED == set(rights.NEEDED)


@pytest.mark.parametrize(
    ("denied", "said"),
    [
        (("hset",), "+hset."),
        (("client|setname", "subscribe"), "+client|setname, +subscribe."),
        (rights.ON_KEYS, "keys ~p:*."),
        (rights.ON_CHANNELS, "channels &p:*."),
        ((*rights.ON_CHANNELS, *rights.ON_KEYS, "time"), "keys ~p:*, channels &p:*, +time."),
    ],
)
def test_what_is_missing_is_said_as_it_is_granted(denied: tuple[str, ...], said: str) -> None:
    finding = rights.check(having(denied=denied), "p")

    assert finding.level == Level.PROBLEM
    assert finding.what == f"The user lacks rights: {said}"
