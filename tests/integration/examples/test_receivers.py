"""The receivers of examples/backends, each run as a process that gets webhook requests.

The receivers in Python and Node run every time. The others need runtimes that a fresh clone does not have, and have the
mark `examples`. A missing runtime fails the run.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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
    signature,
    start,
    stop,
)
from tests.support.ports import free_port
from tests.support.waiter import await_until, wait_until

OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode()
TOLERANCE_SECONDS = 300
READ = {
    "emit": [{"event": "notification:read", "data": {"notificationId": "n-1", "success": True}}],
    "ack": {"success": True},
}

pytestmark = pytest.mark.timeout(600)  # the first test of a language also compiles its receiver

LANGUAGES = {
    "bash": Language(
        run=("bash", "bash/receiver.sh"),
        debian_packages="bash socat openssl jq",
        also_needs=("socat", "openssl", "jq"),
    ),
    "python": Language(run=(sys.executable, "python/receiver.py"), debian_packages="python3"),
    "node": Language(run=(node(), "node/receiver.mjs"), debian_packages="nodejs"),
    "php": Language(run=("php", "-S", "127.0.0.1:{port}", "php/receiver.php"), debian_packages="php-cli"),
    "ruby": Language(run=("ruby", "ruby/receiver.rb"), debian_packages="ruby"),
    "go": Language(
        build=("go", "build", "-o", "{out}/receiver", "go/receiver.go"),
        run=("{out}/receiver",),
        debian_packages="golang-go",
    ),
    "java": Language(run=("java", "java/Receiver.java"), debian_packages="default-jdk-headless"),
    "csharp": Language(
        build=(
            "mcs", "-r:System.Runtime.Serialization.dll", "-r:System.Xml.dll", "-out:{out}/Receiver.exe",
            "csharp/Receiver.cs",
        ),
        run=("mono", "{out}/Receiver.exe"),
        debian_packages="mono-mcs libmono-system-runtime-serialization4.0-cil",
    ),
}  # fmt: skip
IN_EVERY_RUN = ("python", "node")


def effects(receiver: Receiver, user: str) -> int:
    """Return how often a notification was marked as read for a user."""
    lines = receiver.log.read_text(encoding="utf-8").splitlines()
    return sum(line.startswith("read ") and line.endswith(f" by {user}") for line in lines)


def client_event(event: str = "notification:mark_read", *args: object, user: str = "42") -> bytes:
    """Return the body of a request for a client event."""
    connection = {
        "sid": "~Us0vAAAAAAAAAAAAAAAA", "user": user, "rooms": ["org:7", f"user:{user}"], "data": {},
        "connected_at": "2026-11-21T12:00:00.000Z", "replica": "gateway-0",
    }  # fmt: skip
    data = {
        "namespace": "/", "event": event, "args": list(args), "wants_ack": True, "mode": "call", "sequence": None,
        "connection": connection,
    }  # fmt: skip
    return as_json({"type": "client.event", "timestamp": "2026-11-21T12:00:00.000Z", "data": data})


def mark_read(notification: str = "n-1", *, user: str = "42") -> bytes:
    """Return the body of a request that marks a notification as read."""
    return client_event("notification:mark_read", {"notificationId": notification}, user=user)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.examples]) for name in LANGUAGES
    ],
)
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], Path]:
    """The command of each receiver in turn, compiled if the language needs it, and a folder for its files."""
    out = tmp_path_factory.mktemp(request.param)
    return build(request.param, LANGUAGES[request.param], out), out


@pytest.fixture(scope="session")
def receiver(program: tuple[tuple[str, ...], Path]) -> Iterator[Receiver]:
    """The receiver of each language, running."""
    command, folder = program
    running = Receiver(free_port(), folder / "log")
    process = start(command, running.port, running.log, PORT=str(running.port), WEBHOOK_SECRET=SECRET)
    try:
        wait_until(
            lambda: process.poll() is not None or is_open(running.port), "the receiver listens", seconds=120
        )
        assert process.poll() is None, running.log.read_text(encoding="utf-8")
        yield running
    finally:
        stop(process)


def test_signature_of_these_tests_is_that_of_the_vector() -> None:
    body = b'{"type":"user.online","timestamp":"2026-11-21T12:00:00.000Z","data":{"user":"42","version":1795262400000}}'

    signed = signature(SECRET, "p-42-1795262400000", 1795262400, body)
    assert signed == "v1,RjRMO/jBaic2owANFhtAFs6FXxTJEgajJ+pyAzUNZ0Q="


async def test_event_is_answered_with_an_emission_and_an_acknowledgement(receiver: Receiver) -> None:
    assert await receiver.post(WebhookRequest(mark_read()).signed()) == Answer(200, READ)


@pytest.mark.parametrize("notification", ['ü "n" \\ 1', "日本\n", "😀", ""])
async def test_text_of_the_event_is_answered_unchanged(receiver: Receiver, notification: str) -> None:
    answer = await receiver.post(WebhookRequest(mark_read(notification)).signed())

    assert answer.status == 200
    assert answer.json["emit"][0]["data"]["notificationId"] == notification


async def test_event_is_rejected_with_a_code_and_a_sentence(receiver: Receiver) -> None:
    answer = await receiver.post(WebhookRequest(mark_read("x-1")).signed())

    assert (answer.status, answer.json["code"]) == (403, "not_yours")
    assert answer.json["message"].endswith(".")


@pytest.mark.parametrize("kind", ["webhook.test", "user.online", "a.type.of.a.later.release"])
async def test_other_types_are_accepted(receiver: Receiver, kind: str) -> None:
    body = as_json({"type": kind, "timestamp": "2026-11-21T12:00:00.000Z", "data": {}})

    assert await receiver.post(WebhookRequest(body).signed()) == Answer(204)


async def test_unknown_event_is_rejected(receiver: Receiver) -> None:
    answer = await receiver.post(WebhookRequest(client_event("order:cancel", {})).signed())

    assert (answer.status, answer.json["code"]) == (404, "unknown_event")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b'{"type":"client.event"}', client_event(), mark_read().replace(b'"n-1"', b"1")],
    ids=["empty", "no JSON", "null", "no data", "no argument", "number"],
)
async def test_signed_body_of_a_wrong_form_is_rejected(receiver: Receiver, body: bytes) -> None:
    answer = await receiver.post(WebhookRequest(body).signed())

    assert (answer.status, answer.json["code"]) == (400, "invalid_payload")


async def test_request_is_accepted_while_secrets_are_rotated(receiver: Receiver) -> None:
    for secrets in ((OTHER_SECRET, SECRET), (SECRET, OTHER_SECRET)):
        assert await receiver.post(WebhookRequest(mark_read()).signed(*secrets)) == Answer(200, READ)


async def test_signatures_of_unknown_versions_are_ignored(receiver: Receiver) -> None:
    request = WebhookRequest(mark_read()).signed()
    request.signatures = f"v1a,AAAA {request.signatures} v2,AAAA"

    assert await receiver.post(request) == Answer(200, READ)


async def test_forged_requests_get_401_and_have_no_effect(receiver: Receiver) -> None:
    user = "forger"
    other_body, other_id = (WebhookRequest(mark_read(user=user)).signed() for _ in range(2))
    other_body.body = mark_read("n-2", user=user)
    other_id.message_id += "-1"
    v2 = WebhookRequest(mark_read(user=user)).signed()
    v2.signatures = v2.signatures.replace("v1,", "v2,")
    cut = WebhookRequest(mark_read(user=user)).signed()
    cut.signatures = cut.signatures[:-1]
    forged = [other_body, other_id, v2, cut, WebhookRequest(mark_read(user=user)).signed(OTHER_SECRET)]

    answers = [await receiver.post(each) for each in forged]
    answers += [
        await receiver.post(WebhookRequest(mark_read(user=user)).signed(), **{name: value})
        for name in ("webhook_id", "webhook_timestamp", "webhook_signature")
        for value in (None, "x")
    ]
    assert {(each.status, each.json["code"]) for each in answers} == {(401, "bad_signature")}
    assert effects(receiver, user) == 0


async def test_request_of_another_time_gets_401(receiver: Receiver) -> None:
    now = int(time.time())
    for timestamp in (now - TOLERANCE_SECONDS - 60, now + TOLERANCE_SECONDS + 60, 0):
        old = WebhookRequest(mark_read(user="old"), timestamp=timestamp).signed()
        assert (await receiver.post(old)).status == 401
    redated = WebhookRequest(mark_read(user="old"), timestamp=now - TOLERANCE_SECONDS - 60).signed()
    redated.timestamp = now
    assert (await receiver.post(redated)).status == 401
    assert effects(receiver, "old") == 0

    recent = WebhookRequest(mark_read(), timestamp=now - TOLERANCE_SECONDS + 60).signed()
    assert await receiver.post(recent) == Answer(200, READ)


async def test_repeat_gets_the_first_answer_and_has_no_second_effect(receiver: Receiver) -> None:
    request = WebhookRequest(mark_read(user="repeated")).signed()
    first = await receiver.post(request)
    request.timestamp += 1
    second = await receiver.post(request.signed())

    assert (first, second) == (Answer(200, READ), Answer(200, READ))
    await await_until(lambda: effects(receiver, "repeated") > 0, "the effect is logged")
    assert effects(receiver, "repeated") == 1


async def test_repeats_at_the_same_time_have_one_effect(receiver: Receiver) -> None:
    request = WebhookRequest(mark_read(user="concurrent")).signed()

    answers = await asyncio.gather(*(receiver.post(request) for _ in range(5)))
    assert answers == [Answer(200, READ)] * 5
    await await_until(lambda: effects(receiver, "concurrent") > 0, "the effect is logged")
    assert effects(receiver, "concurrent") == 1


async def test_receiver_survives_a_body_that_is_too_large(receiver: Receiver) -> None:
    try:
        answer = await receiver.post(WebhookRequest(b" " * ((1 << 20) + 1)).signed())
    except aiohttp.ClientError:
        pass  # the receiver closed the connection before it had read everything
    else:
        assert answer.status == 413

    assert await receiver.post(WebhookRequest(mark_read()).signed()) == Answer(200, READ)


async def test_receiver_without_a_secret_accepts_nothing(program: tuple[tuple[str, ...], Path]) -> None:
    command, folder = program
    unset = Receiver(free_port(), folder / "log-without-a-secret")
    process = start(command, unset.port, unset.log, PORT=str(unset.port))
    try:
        await await_until(
            lambda: process.poll() is not None or is_open(unset.port), "the receiver has started"
        )
        if process.poll() is None:  # a web server, whose script runs with each request
            assert (await unset.post(WebhookRequest(mark_read()).signed("whsec_"))).status == 500
        else:
            assert process.returncode in {1, 2}
            assert "WEBHOOK_SECRET" in unset.log.read_text(encoding="utf-8")
    finally:
        stop(process)
