"""The senders of examples/backends, each run as a program against a live gateway.

`live_gateway` has `url`, `key_id`, `secret` and `listen(user, **claims)`, an asynchronous context manager whose value
returns the received events: `await events.next()` -> `(event, args)`.

The senders in bash, Python and Node run every time. The others need runtimes that a fresh clone does not have, and have
the mark `examples`. A missing runtime fails the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.examples.languages import BACKENDS, Language, build, node

USER = "ann/ü x%y+z:1"
DATA = '{"title":"hi","n":12345678901234567890}'
SENDER_TIMEOUT_SECONDS = 120  # for one run, the start of a JVM on a busy machine included

pytestmark = pytest.mark.timeout(600)  # the first test of a language also compiles its sender


LANGUAGES = {
    "bash": Language(
        run=("bash", "bash/push.sh"),
        debian_packages="bash curl openssl",
        also_needs=("curl", "openssl"),
    ),
    "python": Language(run=(sys.executable, "python/push.py"), debian_packages="python3"),
    "node": Language(run=(node(), "node/push.mjs"), debian_packages="nodejs"),
    "php": Language(run=("php", "php/push.php"), debian_packages="php-cli"),
    "ruby": Language(run=("ruby", "ruby/push.rb"), debian_packages="ruby"),
    "go": Language(
        build=("go", "build", "-o", "{out}/push", "go/push.go"),
        run=("{out}/push",),
        debian_packages="golang-go",
    ),
    "java": Language(run=("java", "java/Push.java"), debian_packages="default-jdk-headless"),
    "csharp": Language(
        build=("mcs", "-r:System.Net.Http.dll", "-out:{out}/Push.exe", "csharp/Push.cs"),
        run=("mono", "{out}/Push.exe"),
        debian_packages="mono-mcs libmono-system-net-http4.0-cil",
    ),
}
IN_EVERY_RUN = ("bash", "python", "node")


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of one run of a sender."""

    status: int
    stdout: str
    stderr: str

    @property
    def response(self) -> dict[str, Any]:
        """The response of the gateway; fails if the sender did not succeed."""
        assert self.status == 0, self.stderr
        assert self.stderr == ""
        response: dict[str, Any] = json.loads(self.stdout)
        return response


@dataclass(frozen=True)
class Sender:
    """A sender that can be run, and the home folder of its process."""

    command: tuple[str, ...]
    home: Path

    async def push(self, *arguments: str, **settings: str) -> Outcome:
        """Run the sender with these arguments, and with these settings instead of the environment."""
        locale = {"LC_ALL": "C.UTF-8"}  # the JVM decodes its arguments by it
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            cwd=BACKENDS,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **locale, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(SENDER_TIMEOUT_SECONDS):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Outcome(process.returncode, stdout.decode(), stderr.decode())


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.examples]) for name in LANGUAGES
    ],
)
def sender(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sender:
    """The sender of each language, compiled if the language needs it."""
    out = tmp_path_factory.mktemp(request.param)
    return Sender(build(request.param, LANGUAGES[request.param], out), home=out)


def settings(live_gateway: Any, **others: str) -> dict[str, str]:
    """Return the environment variables of a sender for the live gateway."""
    return {
        "GATEWAY_URL": live_gateway.url,
        "GATEWAY_KEY": live_gateway.key_id,
        "GATEWAY_SECRET": live_gateway.secret,
        **others,
    }


async def next_pushed(events: Any) -> tuple[str, Any]:
    """Return the next event that a backend pushed, with its one argument."""
    while True:
        event, args = await events.next()
        if event != "authenticated":  # sent by the gateway after each connect
            return event, with_doubles(json.dumps(args[0]))


def with_doubles(text: str) -> Any:
    """Return the value of a JSON text as JavaScript parses it: every number is a double."""
    return json.loads(text, parse_int=float)


async def test_push_to_a_user_is_received(sender: Sender, live_gateway: Any) -> None:
    async with live_gateway.listen(USER) as events:
        outcome = await sender.push("user", USER, "notification:new", DATA, **settings(live_gateway))
        assert ("notification:new", with_doubles(DATA)) == await next_pushed(events)
    response = outcome.response
    assert (f"user:{USER}", True) == (response["room"], response["online"])
    assert response["id"]


async def test_push_to_a_room_is_received(sender: Sender, live_gateway: Any) -> None:
    room = "org:7"
    async with live_gateway.listen(USER, orgId=7) as events:
        outcome = await sender.push("room", room, "report:ready", DATA, **settings(live_gateway))
        assert ("report:ready", with_doubles(DATA)) == await next_pushed(events)
    response = outcome.response
    assert (room, True) == (response["room"], response["online"])


async def test_broadcast_with_an_event_name_that_json_must_escape_is_received(
    sender: Sender, live_gateway: Any
) -> None:
    event = 'report "ready" \\ ü'
    async with live_gateway.listen(USER) as events:
        outcome = await sender.push("broadcast", event, "[null]", **settings(live_gateway))
        assert (event, [None]) == await next_pushed(events)
    response = outcome.response
    assert response["online"] is True
    assert "room" not in response


async def test_repeat_with_the_same_idempotency_key_is_delivered_once(
    sender: Sender, live_gateway: Any
) -> None:
    own_key = settings(live_gateway, IDEMPOTENCY_KEY=f"order-{uuid.uuid4()}")
    async with live_gateway.listen(USER) as events:
        first = await sender.push("user", USER, "order:shipped", DATA, **own_key)
        repeat = await sender.push("user", USER, "order:shipped", DATA, **own_key)
        await sender.push("user", USER, "order:closed", "1", **settings(live_gateway))
        received = [await next_pushed(events), await next_pushed(events)]
    assert [("order:shipped", with_doubles(DATA)), ("order:closed", 1)] == received
    assert first.response == repeat.response


async def test_wrong_secret_is_reported_with_exit_status_1(sender: Sender, live_gateway: Any) -> None:
    wrong = settings(live_gateway, GATEWAY_SECRET="not the secret, but as long as one")
    outcome = await sender.push("user", USER, "notification:new", DATA, **wrong)
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("401 ")
    assert "bad_signature" in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("user", USER, "notification:new"),
        ("broadcast", "event", "1", "2"),
        ("users", "1", "2", "3"),
    ],
    ids=["none", "too few", "too many", "unknown word"],
)
async def test_wrong_command_line_is_explained_with_exit_status_2(
    sender: Sender, arguments: tuple[str, ...]
) -> None:
    outcome = await sender.push(*arguments, GATEWAY_KEY="shop", GATEWAY_SECRET="unused" * 6)
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("usage: ")


async def test_missing_credentials_are_explained_with_exit_status_2(sender: Sender) -> None:
    outcome = await sender.push("user", USER, "notification:new", DATA)
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert "GATEWAY_KEY, GATEWAY_SECRET" in outcome.stderr
