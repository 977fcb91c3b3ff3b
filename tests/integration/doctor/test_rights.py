"""The rights that the doctor checks are those that the gateway uses and that the example grants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.doctor import rights
from gateway.doctor.findings import Level
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.scripts import load_scripts
from tests.integration.doctor.cases import with_facts
from tests.support.paths import ROOT

NOT_CHECKED = {"select"}
"""Needed only for a database other than 0, where no query succeeds without it."""


def test_checked_commands_include_those_of_the_scripts() -> None:
    folder = ROOT / "gateway/state/redis/lua"
    used = {
        name.lower()
        for script in folder.glob("*.lua")
        for name in re.findall(r"\bcall\('(\w+)'", script.read_text("utf-8"))
    }

    assert used
    assert load_scripts(RedisKeys("p"), dict.fromkeys(_limits(folder), 1))
    assert used - set(rights.NEEDED) == set()


def _limits(folder: Path) -> set[str]:
    return {
        name
        for script in folder.glob("*.lua")
        for name in re.findall(r"\bL\.(\w+)", script.read_text("utf-8"))
    }


def test_checked_commands_are_those_of_the_example() -> None:
    (line,) = [
        line
        for line in (ROOT / "examples/redis/users.acl").read_text("utf-8").splitlines()
        if line.startswith("user ")
    ]
    granted = {word.removeprefix("+") for word in line.split() if word.startswith("+")}

    assert granted - NOT_CHECKED == set(rights.NEEDED)


@pytest.mark.parametrize(
    ("denied", "summary"),
    [
        (("hset",), "+hset."),
        (("client|setname", "subscribe"), "+client|setname, +subscribe."),
        (rights.ON_KEYS, "keys ~p:*."),
        (rights.ON_CHANNELS, "channels &p:*."),
        ((*rights.ON_CHANNELS, *rights.ON_KEYS, "time"), "keys ~p:*, channels &p:*, +time."),
    ],
)
def test_missing_rights_are_written_as_in_acl_setuser(denied: tuple[str, ...], summary: str) -> None:
    finding = rights.check(with_facts(denied=denied), "p")

    assert finding.level == Level.PROBLEM
    assert finding.description == f"The user lacks rights: {summary}"
