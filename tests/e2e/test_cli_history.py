"""``sio-gateway history`` against a gateway: what it prints, what it erases, and its mistakes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.unit.cli.command_line import run


def history(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(
        "history",
        *arguments,
        "--url",
        gateway.ingest_url,
        INGEST_KEYS=f"{gateway.key_id}:{gateway.secret}",
    )


def printed(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_messages_are_printed_page_after_page_and_erased(gateway_process: GatewayProcess, user: str) -> None:
    backend, room = gateway_process.backend, f"org:{user}/ü"
    for number in range(230):
        assert backend.push_room(room, "news", number).status == 200

    everything = printed(history(gateway_process, "room", room))

    assert [message["data"] for message in everything] == list(range(230))
    limited = printed(history(gateway_process, "room", room, "--limit", "120"))
    assert limited == everything[:120]
    assert printed(history(gateway_process, "room", room, "--newest", "--limit", "3")) == everything[-3:]
    middle = everything[199]["position"]
    assert printed(history(gateway_process, "room", room, "--after", middle)) == everything[200:]

    erased = printed(history(gateway_process, "room", room, "--delete", "--upto", middle))

    assert erased == [{"removed": 200}]
    assert printed(history(gateway_process, "room", room)) == everything[200:]


def test_histories_of_a_user_and_of_broadcasts_are_printed(
    gateway_process: GatewayProcess, user: str
) -> None:
    gateway_process.push_user(user, "news", 1)
    gateway_process.backend.broadcast("to-all", 2)

    assert [each["data"] for each in printed(history(gateway_process, "user", user))] == [1]
    (newest,) = printed(history(gateway_process, "broadcast", "--newest", "--limit", "1"))
    assert (newest["event"], newest["data"]) == ("to-all", 2)
    upto = newest["position"]
    assert printed(history(gateway_process, "user", user, "--delete", "--upto", upto)) == [{"removed": 1}]
    assert printed(history(gateway_process, "user", user)) == []


def test_gap_is_a_line_on_stderr(gateway_process: GatewayProcess, user: str) -> None:
    done = history(gateway_process, "user", user, "--after", "5-0")

    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "messages are missing: data_lost")


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["user", "a", "--delete"], "--delete and --upto belong together"),
        (["user", "a", "--upto", "1-0"], "--delete and --upto belong together"),
        (["user", "a", "--delete", "--upto", "1-0", "--newest"], "--delete goes with --upto"),
        (["user", "a", "--newest", "--limit", "101"], "--newest prints 100 messages at most"),
        (["user", ".."], "the user id '..' is invalid"),
        (["room", ".."], "the room '..' is invalid"),
        (["room", "a", "--limit", "0"], "--limit"),
    ],
)
def test_mistake_is_named_and_nothing_is_sent(
    gateway_process: GatewayProcess, arguments: list[str], mistake: str
) -> None:
    done = history(gateway_process, *arguments)

    assert done.returncode == 2
    assert mistake in done.stderr


def test_rejection_of_the_gateway_is_printed(gateway_process: GatewayProcess) -> None:
    done = history(gateway_process, "user", "a", "--delete", "--upto", "yesterday")

    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "invalid_query"
