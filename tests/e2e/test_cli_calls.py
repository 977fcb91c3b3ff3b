"""The commands for backends against a gateway: what they print, what takes effect, and their mistakes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import wait_until
from tests.unit.cli.command_line import run

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "match:*", list_members: true}]
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    catalogue: Path = tmp_path_factory.mktemp("catalogue") / "events.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    process = GatewayProcess(events_file=catalogue)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def command(gateway: GatewayProcess, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run(*arguments, URL=gateway.ingest_url, KEY=gateway.key_id, SECRET=gateway.secret, **options)


def answer(gateway: GatewayProcess, *arguments: str, **options: Any) -> Any:
    done = command(gateway, *arguments, **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def lines(gateway: GatewayProcess, *arguments: str) -> list[Any]:
    done = command(gateway, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def alice(gateway: GatewayProcess, node: NodeClients, user: str) -> Iterator[StockClient]:
    """A client of the user whose token has the user as its id, too."""
    client = node.open(gateway.url, token=gateway.token(user, jti=user)).connected()
    yield client
    client.disconnect()
    wait_until(
        lambda: not gateway.backend.presence(user)["connections"], "the gateway knows that it has gone"
    )


def test_emit_with_ack_prints_what_the_client_answered(
    gateway: GatewayProcess, alice: StockClient, user: str
) -> None:
    alice.answer_all({"seen": True})

    for target in (("user", user), ("users", f"{user},absent"), ("room", f"user:{user}")):
        found = answer(gateway, "emit", *target, "ask", '{"n":1}', "--ack", "first", "--timeout", "20")

        assert (found["complete"], found["asked"], found["acked"], found["gone"]) == (True, 1, 1, 0)
        assert [(ack["user"], ack["data"]) for ack in found["acks"]] == [(user, {"seen": True})]


def test_emit_to_users_prints_the_connections_of_each(
    gateway: GatewayProcess, alice: StockClient, user: str
) -> None:
    found = answer(gateway, "emit", "users", f"{user},absent", "news", "7")

    assert (found["users"], found["online"], found["connections"]) == ({user: 1, "absent": 0}, True, 1)
    assert alice.event("news")[0] == 7


def test_batch_of_a_file_is_delivered_in_its_order_and_all_or_none(
    gateway: GatewayProcess, alice: StockClient, user: str, tmp_path: Path
) -> None:
    file = tmp_path / "messages.json"
    to = {"user": user}
    file.write_text(
        json.dumps([{"to": to, "event": "first", "data": 1}, {"to": to, "event": "second"}]), "utf-8"
    )

    found = answer(gateway, "batch", str(file), "--idempotency-key", user)

    assert [each["connections"] for each in found["results"]] == [1, 1]
    assert answer(gateway, "batch", str(file), "--idempotency-key", user) == found
    alice.event("second")
    assert (len(alice.events("first")), len(alice.events("second"))) == (1, 1)

    done = command(gateway, "batch", "-", stdin=json.dumps([{"to": to, "event": "third"}, {"to": to}]))

    assert done.returncode == 1
    assert list(json.loads(done.stdout)["errors"]) == ["messages.1.event"]
    gateway.wait_until_delivered(alice)
    assert alice.events("third") == []


def test_join_and_leave_change_the_rooms_of_a_user(
    gateway: GatewayProcess, alice: StockClient, user: str
) -> None:
    room = f"match:{user}"

    assert answer(gateway, "join", room, "--user", user) == {"connections": 1, "recoverable": 0}
    assert gateway.backend.push_room(room, "inside", 1).body["connections"] == 1
    alice.event("inside")
    assert answer(gateway, "leave", room, "--in", room)["connections"] == 1
    assert gateway.backend.push_room(room, "outside", 1).body["connections"] == 0


def test_lists_have_the_user_the_room_and_the_connection(
    gateway: GatewayProcess, alice: StockClient, user: str
) -> None:
    room = f"match:{user}"
    answer(gateway, "join", room, "--user", user)

    stats = answer(gateway, "stats")
    assert (stats["users"], stats["connections"], len(stats["replicas"])) == (1, 1, 1)
    assert lines(gateway, "users", "--prefix", user) == [{"name": user, "connections": 1}]
    assert lines(gateway, "rooms", "--prefix", "match:") == [{"name": room, "connections": 1}]
    (found,) = lines(gateway, "rooms", room)
    assert (found["room"], found["connections"], found["users"]) == (room, 1, 1)
    for arguments in (("--user", user), ("--room", room), (alice.sid,)):
        (connection,) = lines(gateway, "connections", *arguments)
        assert (connection["sid"], connection["user"], connection["rooms"]) == (
            alice.sid, user, [room, f"user:{user}"],
        )  # fmt: skip


def test_presence_of_several_users_is_printed(gateway: GatewayProcess, alice: StockClient, user: str) -> None:
    found = answer(gateway, "presence", user, "absent")["users"]

    assert {name: (each["online"], each["connections"]) for name, each in found.items()} == {
        user: (True, 1),
        "absent": (False, 0),
    }


def test_revoked_token_is_rejected_and_its_connection_closed(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    token = gateway.token(user, jti=user)
    client = node.open(gateway.url, token=token).connected()

    assert answer(gateway, "revoke", user) == {"disconnected": 1}

    client.wait("disconnect")
    again = node.open(gateway.url, token=token)
    assert again.wait("connect_error")["data"]["code"] == "token_revoked"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("emit", "user", "a", "connect", "--ack", "first"), "invalid_body"),
        (("emit", "users", "a", "auth:expired"), "invalid_body"),
        (("emit", "users", "a,a", "e"), "invalid_body"),
        (("emit", "users", "", "e"), "invalid_body"),
        (("batch", "-"), "invalid_body"),
        (("join", "org:7", "--everyone"), "missing_scope"),
        (("leave", "user:a", "--everyone"), "missing_scope"),
        (("leave", "..", "--everyone"), "invalid_body"),
        (("users", "--namespace", "/nowhere"), "invalid_query"),
        (("rooms", "--namespace", "/nowhere"), "invalid_query"),
        (("connections", "--room", "secret"), "members_not_listed"),
        (("connections", "~none"), "unknown_connection"),
        (("history", "room", "a", "--after", "yesterday"), "invalid_query"),
        (("revoke", ""), "invalid_body"),
        (("revoke", "a", "--issuer", "https://absent.example.com/"), "invalid_body"),
    ],
)
def test_rejection_of_the_gateway_is_printed_and_the_status_is_1(
    gateway: GatewayProcess, arguments: tuple[str, ...], code: str
) -> None:
    done = command(gateway, *arguments, stdin="[]")

    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == code
    assert f" {code}: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("emit", "user", "a", "e", "--ack", "some"), "--ack"),
        (("emit", "user", "a", "e", "--timeout", "5"), "--timeout"),
        (("batch", "/no/such/file"), "/no/such/file"),
        (("join", "match:9"), "--everyone"),
        (("join", "match:9", "--everyone", "--user", "a"), "--everyone"),
        (("stats", "--namespace", "/"), "--namespace"),
        (("rooms", "match:9", "--prefix", "m"), "--prefix"),
        (("connections",), "--user"),
        (("history", "room"), "NAME"),
        (("presence",), "USER"),
        (("presence", "a", ".."), "'..'"),
        (("revoke", "a", "--expires-at", "-1"), "--expires-at"),
    ],
)
def test_mistake_is_named_and_the_status_is_2(
    gateway: GatewayProcess, arguments: tuple[str, ...], sentence: str
) -> None:
    done = command(gateway, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
