"""The receivers that know who is online: what is late, repeated or forged changes nothing, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.examples.languages import Language, build, node
from tests.integration.examples.receivers import (
    SECRET,
    Answer,
    Receiver,
    WebhookRequest,
    as_json,
    is_open,
    start,
    stop,
)
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.waiter import await_until, wait_until

LANGUAGES = {
    "python": Language(run=(sys.executable, "python/who_is_online.py"), debian_packages="python3"),
    "node": Language(run=(node(), "node/who-is-online.mjs"), debian_packages="nodejs"),
    "php": Language(
        run=("php", "-S", "127.0.0.1:{port}", "php/who-is-online.php"), debian_packages="php-cli"
    ),
}
IN_EVERY_RUN = ("python", "node")
EACH_LANGUAGE = [
    pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.examples]) for name in LANGUAGES
]
CATALOGUE = """
version: 1
namespaces:
  /:
    client_events:
      chat:message: {args: [{type: object, required: [id]}], notify: app, dedupe: $0.id, ack: {stored: true}}
presence: {offline_after_seconds: 0, notify: app}
"""
VERSION = 1_795_262_400_123
SEQUENCE = 1_795_262_400_123_000
users = (f"user {number} ü😀" for number in itertools.count())


@dataclass
class OnlineReceiver(Receiver):
    """A receiver with its data in ``folder``, which a test may restart."""

    command: tuple[str, ...] = ()
    folder: Path = Path()
    process: Any = None

    def run(self) -> None:
        self.process = start(
            self.command,
            self.port,
            self.log,
            PORT=str(self.port),
            DATA=str(self.folder),
            WEBHOOK_SECRET=SECRET,
        )
        wait_until(lambda: self.process.poll() is not None or is_open(self.port), "the receiver listens")
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")

    def restart(self) -> None:
        stop(self.process)
        self.run()

    async def online(self) -> set[str]:
        """Return the users that it takes for online."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/") as response,
        ):
            return set((await response.json(content_type=None))["online"])

    def lines(self, user: str) -> list[str]:
        """Return the changes of a user that it printed."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if f" {user} " in line]


def start_receiver(language: str, folder: Path) -> OnlineReceiver:
    """Start the receiver of a language, compiled if it needs that."""
    command = build(language, LANGUAGES[language], folder)
    receiver = OnlineReceiver(free_port(), folder / "log", command, folder)
    receiver.run()
    return receiver


@pytest.fixture(scope="module", params=EACH_LANGUAGE)
def receiver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnlineReceiver]:
    running = start_receiver(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    stop(running.process)


@pytest.fixture
def user() -> str:
    return next(users)


def change(user: str, version: int, *, online: bool) -> dict[str, Any]:
    """Return a change of presence, as the gateway sends it."""
    return {
        "type": "user.online" if online else "user.offline",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "data": {
            "user": user, "version": version, "since": "2026-11-21T12:00:00.000Z", "connections": int(online)
        },
    }  # fmt: skip


def event(user: str, sequence: int, *args: object) -> dict[str, Any]:
    """Return a notification of a client event, as the gateway sends it."""
    connection = {
        "sid": "~Us0vAAAAAAAAAAAAAAAA", "user": user, "rooms": [f"user:{user}"], "data": {},
        "connected_at": "2026-11-21T12:00:00.000Z", "replica": "gateway-0",
    }  # fmt: skip
    data = {
        "namespace": "/", "event": "chat:message", "args": list(args), "wants_ack": True, "mode": "notify",
        "connection": connection, "sequence": sequence,
    }  # fmt: skip
    return {"type": "client.event", "timestamp": "2026-11-21T12:00:00.000Z", "data": data}


async def send(receiver: Receiver, message: object, **fields: Any) -> Answer:
    return await receiver.post(WebhookRequest(as_json(message), **fields).signed())


def kinds(lines: list[str]) -> list[tuple[str, str]]:
    """Return the first word of each line, and the number behind the user."""
    return [(line.split(" ", 1)[0], line.removesuffix("\n").rsplit(" ", 1)[-1]) for line in lines]


async def test_user_is_online_until_a_newer_version_says_otherwise(
    receiver: OnlineReceiver, user: str
) -> None:
    assert await send(receiver, change(user, VERSION, online=True)) == Answer(204)
    assert user in await receiver.online()

    assert await send(receiver, change(user, VERSION + 1, online=False)) == Answer(204)
    assert user not in await receiver.online()


async def test_stale_and_equal_versions_are_accepted_and_change_nothing(
    receiver: OnlineReceiver, user: str
) -> None:
    await send(receiver, change(user, VERSION, online=True))

    for version in (VERSION - 1, VERSION, 1):
        assert await send(receiver, change(user, version, online=False)) == Answer(204)

    assert user in await receiver.online()
    assert [line[0] for line in kinds(receiver.lines(user))] == ["user.online"]


async def test_versions_of_users_are_apart(receiver: OnlineReceiver) -> None:
    early, late = next(users), next(users)
    await send(receiver, change(late, VERSION + 100, online=True))
    await send(receiver, change(early, VERSION, online=True))

    assert {early, late} <= await receiver.online()


async def test_changes_at_the_same_time_end_with_the_newest(receiver: OnlineReceiver, user: str) -> None:
    versions = [VERSION + number for number in (3, 1, 4, 0, 2, 5, 6)]
    changes = [change(user, version, online=version % 2 == 1) for version in versions]

    await asyncio.gather(*[send(receiver, each) for each in changes])

    assert (user in await receiver.online()) is ((VERSION + 6) % 2 == 1)


async def test_event_is_stored_once_for_its_id(receiver: OnlineReceiver, user: str) -> None:
    message = event(user, SEQUENCE, {"text": "hi"})
    for _ in range(3):
        assert await send(receiver, message, message_id=f"a-once-{os.getpid()}") == Answer(204)
    await send(receiver, event(user, SEQUENCE + 1, {"text": "hi"}), message_id=f"a-once-{os.getpid()}")

    assert len(receiver.lines(user)) == 1


async def test_event_that_is_not_above_the_last_sequence_is_dropped(
    receiver: OnlineReceiver, user: str
) -> None:
    for sequence in (SEQUENCE, SEQUENCE + 2, SEQUENCE + 1, SEQUENCE + 2, SEQUENCE + 3):
        assert await send(receiver, event(user, sequence)) == Answer(204)

    assert [line.split(f" {user} ")[1].split()[0] for line in receiver.lines(user)] == [
        str(SEQUENCE), str(SEQUENCE + 2), str(SEQUENCE + 3)
    ]  # fmt: skip


async def test_batch_is_stored_entry_by_entry(receiver: OnlineReceiver, user: str) -> None:
    entries = [
        {"id": f"a-{os.getpid()}-b{number}"} | each
        for number, each in enumerate(
            [
                event(user, SEQUENCE),
                event(user, SEQUENCE + 1),
                change(user, VERSION, online=True),
                event(user, SEQUENCE + 1),
                change(user, VERSION - 1, online=False),
            ]
        )
    ]
    batch = {"type": "batch", "timestamp": "2026-11-21T12:00:00.000Z", "data": entries}
    assert await send(receiver, batch) == Answer(204)
    assert await send(receiver, batch) == Answer(204)
    assert await send(receiver, event(user, SEQUENCE + 9), message_id=entries[0]["id"]) == Answer(204)

    assert [line.split()[0] for line in receiver.lines(user)] == ["event", "event", "user.online"]
    assert user in await receiver.online()


async def test_forged_requests_get_401_and_change_nothing(receiver: OnlineReceiver, user: str) -> None:
    body = as_json(change(user, VERSION, online=True))
    forged = WebhookRequest(body).signed()
    forged.body = body.replace(b"online", b"offline")
    answers = [
        await receiver.post(forged),
        await receiver.post(
            WebhookRequest(body).signed("whsec_YW5vdGhlciBzZWNyZXQgb2YgMzIgYnl0ZXMuLi4uLi4=")
        ),
        await receiver.post(WebhookRequest(body, timestamp=1_795_262_400 - 10**6).signed()),
        await receiver.post(WebhookRequest(body).signed(), webhook_signature=None),
    ]

    assert {(each.status, each.json["code"]) for each in answers} == {(401, "bad_signature")}
    assert user not in await receiver.online()
    assert receiver.lines(user) == []


async def test_types_of_later_releases_are_accepted(receiver: OnlineReceiver) -> None:
    for kind in ("webhook.test", "a.type.of.a.later.release"):
        message: dict[str, Any] = {"type": kind, "timestamp": "2026-11-21T12:00:00.000Z", "data": {}}
        assert await send(receiver, message) == Answer(204)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"null",
        b'{"type":"user.online"}',
        b'{"type":"user.online","data":{"version":1}}',
        b'{"type":"user.online","data":{"user":"42"}}',
        b'{"type":"client.event","data":{"event":"e","args":[],"connection":{"user":"42"}}}',
    ],
)
async def test_event_of_a_wrong_form_becomes_a_dead_letter(receiver: OnlineReceiver, body: bytes) -> None:
    answer = await receiver.post(WebhookRequest(body).signed())

    assert (answer.status, answer.json["code"]) == (400, "invalid_payload")


async def test_restarted_receiver_knows_versions_sequences_and_ids(
    receiver: OnlineReceiver, user: str
) -> None:
    await send(receiver, change(user, VERSION, online=True))
    await send(receiver, event(user, SEQUENCE), message_id=f"a-kept-{os.getpid()}")
    receiver.restart()

    assert user in await receiver.online()
    await send(receiver, change(user, VERSION - 1, online=False))
    await send(receiver, event(user, SEQUENCE))
    await send(receiver, event(user, SEQUENCE + 1), message_id=f"a-kept-{os.getpid()}")

    assert user in await receiver.online()
    assert receiver.lines(user) == []


@pytest.fixture(params=[1, 100], ids=["single", "batch"])
def gateway(
    request: pytest.FixtureRequest, receiver: OnlineReceiver, tmp_path: Path
) -> Iterator[GatewayProcess]:
    """A gateway that notifies the receiver, one event in a request or many."""
    events, secret, config = (tmp_path / name for name in ("events.yaml", "secret", "gateway.yaml"))
    events.write_text(CATALOGUE, encoding="utf-8")
    secret.write_text(SECRET, encoding="utf-8")
    webhook = {
        "id": "app", "url": f"http://127.0.0.1:{receiver.port}/gateway", "secret_file": str(secret),
        "batch": request.param, "partitions": 1,
    }  # fmt: skip
    config.write_text(json.dumps({"webhooks": [webhook]}), encoding="utf-8")
    process = GatewayProcess(config=config, events_file=events, redis_url=None, message_rate=1_000)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


async def test_user_of_a_gateway_is_online_while_a_client_is_connected(
    receiver: OnlineReceiver, gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    await await_until(lambda: len(receiver.lines(user)) == 1, "the receiver prints user.online")
    assert user in await receiver.online()

    client.disconnect()
    await await_until(lambda: len(receiver.lines(user)) == 2, "the receiver prints user.offline")
    assert user not in await receiver.online()

    online, offline = kinds(receiver.lines(user))
    assert (online[0], offline[0]) == ("user.online", "user.offline")
    assert int(offline[1]) > int(online[1])


async def test_events_of_a_gateway_are_stored_once_and_in_order_although_the_receiver_restarts(
    receiver: OnlineReceiver, gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    await await_until(lambda: len(receiver.lines(user)) == 1, "the receiver prints user.online")
    stop(receiver.process)
    for number in range(20):
        assert client.emit_with_ack("chat:message", {"id": f"m-{number}"}) == {"stored": True}
    assert client.emit_with_ack("chat:message", {"id": "m-19"}) == {"stored": True}
    receiver.run()

    await await_until(lambda: len(receiver.lines(user)) == 20, "the receiver prints all events")
    client.emit_with_ack("chat:message", {"id": "m-20"})
    await await_until(lambda: len(receiver.lines(user)) == 21, "the receiver prints the last event")

    sequences = [int(line.split(f" {user} ")[1].split()[0]) for line in receiver.lines(user)]
    assert sequences == sorted(set(sequences))
    assert user in await receiver.online()
    client.disconnect()
