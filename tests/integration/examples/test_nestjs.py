"""examples/nestjs: front-end code for NestJS gateways gets from this gateway what it got from NestJS.

The backend is the receiver of examples/backends in Python.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.examples.languages import BACKENDS, node
from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import wait_until

NESTJS = ROOT / "examples" / "nestjs"
PACKAGES = ROOT / "tests" / "integration" / "frontend" / "node_modules"
SECRET = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="


class Pages:
    """Pages that run the front-end modules, all in one Node process."""

    def __init__(self, folder: Path, gateway: GatewayProcess) -> None:
        for module in (*NESTJS.glob("*.mjs"), Path(__file__).with_name("nestjs.mjs")):
            shutil.copy(module, folder)
        (folder / "node_modules").symlink_to(PACKAGES)
        self._gateway = gateway
        self._process = subprocess.Popen(
            [node(), str(folder / "nestjs.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._journal = Journal("the pages")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._opened: list[str] = []

    def open(self, module: str, user: str, **claims: Any) -> Page:
        """Open a page of a user and wait until it is connected."""
        name = f"{module}-{user}-{len(self._opened)}"
        self._opened.append(name)
        token = self._gateway.token(user, **claims)
        self.send({"page": name, "connect": module, "url": self._gateway.url, "token": token})
        page = Page(self, name)
        page.sid = page.shown("connected")
        return page

    def send(self, command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def wait(self, wanted: Callable[[Entry], bool]) -> Entry:
        return self._journal.wait(wanted)

    def all(self) -> list[Entry]:
        return self._journal.entries

    def close(self) -> None:
        """Disconnect every page, and end the process."""
        for name in self._opened:
            self.send({"page": name, "call": "disconnect"})
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._journal.add(json.loads(line))
        self._journal.end()


class Page:
    """One page: its functions, and what it shows."""

    sid: str

    def __init__(self, pages: Pages, name: str) -> None:
        self._pages = pages
        self._name = name

    def call(self, function: str, *args: Any) -> None:
        """Call a function of the front-end module."""
        self._pages.send({"page": self._name, "call": function, "args": args})

    def shown(self, kind: str) -> Any:
        """Wait until the page shows something of a kind; return the first of it."""
        return self._pages.wait(lambda entry: entry["page"] == self._name and entry["shown"] == kind)["data"]

    def kinds(self) -> list[str]:
        """Return the kinds of everything that the page has shown."""
        return [entry["shown"] for entry in self._pages.all() if entry["page"] == self._name]


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    """A gateway with the catalogue of the example, and the receiver as its backend."""
    port = free_port()
    environment = {"PORT": str(port), "WEBHOOK_SECRET": SECRET}
    backend = subprocess.Popen([sys.executable, str(BACKENDS / "python/receiver.py")], env=environment)
    gateway = GatewayProcess(
        events_file=NESTJS / "events.yaml",
        namespaces="/,/chat,/events,/match",
        webhooks=f"app=http://127.0.0.1:{port}/gateway",
        webhook_secrets=f"app:{SECRET}",
    )
    yield gateway
    assert gateway.stop() == 0
    assert gateway.failures() == []
    backend.send_signal(signal.SIGTERM)
    backend.wait(60)


@pytest.fixture
def pages(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Pages]:
    """Pages of this test alone."""
    pages = Pages(tmp_path, gateway)
    yield pages
    pages.close()


def joined(pages: Pages, user: str, room: str) -> Page:
    """Open the chat of a user and join a room."""
    page = pages.open("chat", user)
    page.call("joinRoom", room)
    assert page.shown("joinedRoom") == {"room": room}
    return page


def test_joining_a_room_is_confirmed_and_announced(pages: Pages) -> None:
    alice = joined(pages, "alice", "lobby")
    bob = joined(pages, "bob", "lobby")

    assert alice.shown("userJoined") == {"userId": bob.sid, "room": "lobby"}
    assert "userJoined" not in bob.kinds()


def test_joining_a_room_is_acknowledged(pages: Pages) -> None:
    alice = pages.open("chat", "alice")
    alice.call("joinRoomAndWait", "acknowledged")

    assert alice.shown("acknowledged") == {"event": "joinedRoom", "room": "acknowledged"}


def test_message_reaches_the_room_and_is_confirmed(pages: Pages) -> None:
    alice, bob = joined(pages, "alice", "messages"), joined(pages, "bob", "messages")
    alice.call("message", "hello", "messages")

    for page in (alice, bob):
        message = page.shown("message")
        assert (message["text"], message["sender"]) == ("hello", alice.sid)
        assert message["timestamp"].endswith("Z")
    assert alice.shown("receipt") == "Message received"
    assert "receipt" not in bob.kinds()


def test_message_to_a_room_reaches_everyone_but_the_sender(pages: Pages) -> None:
    alice, bob = joined(pages, "alice", "others"), joined(pages, "bob", "others")
    alice.call("messageToRoom", "others", {"any": ["thing"]})
    assert bob.shown("roomMessage") == {"message": {"any": ["thing"]}, "sender": alice.sid}

    alice.call("message", "last", "others")
    alice.shown("message")
    assert "roomMessage" not in alice.kinds()


@pytest.mark.parametrize("to", ["user", "socket id"])
def test_private_message_reaches_a_user_or_a_socket(pages: Pages, to: str) -> None:
    alice, bob = pages.open("chat", "alice"), pages.open("chat", f"bob-{to[0]}")
    alice.call("privateMessage", f"bob-{to[0]}" if to == "user" else bob.sid, "psst")

    assert bob.shown("privateMessage") == {"from": "alice", "message": "psst"}


def test_leaving_a_room_is_confirmed_and_announced(pages: Pages) -> None:
    alice, bob = joined(pages, "alice", "short"), joined(pages, "bob", "short")
    bob.call("leaveRoom", "short")

    assert bob.shown("leftRoom") == {"room": "short"}
    assert alice.shown("userLeft") == {"userId": bob.sid, "room": "short"}


def test_invalid_message_is_an_error_that_the_page_shows(pages: Pages) -> None:
    alice = joined(pages, "alice", "errors")
    alice.call("message", "", "errors")

    assert "text" in alice.shown("error")


def test_message_of_an_organisation_reaches_its_members(pages: Pages) -> None:
    alice, bob = (pages.open("events", user, orgId=7) for user in ("alice", "bob"))
    other = pages.open("events", "carol", orgId=8)
    alice.call("message", "org:7", {"n": 1})

    message = bob.shown("message")
    assert (message["userId"], message["data"]) == ("alice", {"n": 1})
    other.call("message", "org:7", {"n": 2})
    assert other.shown("error")
    assert other.kinds() == ["connected", "error"]


def test_backend_marks_a_notification_as_read(pages: Pages) -> None:
    alice = pages.open("notifications", "alice")
    alice.call("markRead", "n-1")
    assert alice.shown("read") == {"notificationId": "n-1", "success": True}

    alice.call("markReadAndWait", "n-2")
    assert alice.shown("acknowledged") == {"success": True}


def test_backend_rejects_the_notification_of_another_user(pages: Pages) -> None:
    alice = pages.open("notifications", "alice")
    alice.call("markReadAndWait", "x-1")

    assert alice.shown("error") == "Could not mark the notification as read"
    assert alice.shown("acknowledged") == {
        "success": False,
        "error": "This notification belongs to another user.",
    }


def test_organisation_sees_who_is_online(pages: Pages) -> None:
    ann = pages.open("notifications", "ann", orgId=70)
    assert ann.shown("online")["userId"] == "ann"
    ben = pages.open("events", "ben", orgId=70)
    pages.wait(lambda entry: entry["shown"] == "online" and entry["data"]["userId"] == "ben")

    ben.call("disconnect")

    gone = ann.shown("offline")
    assert gone["userId"] == "ben"
    assert gone["timestamp"].endswith("Z")


def test_chat_shows_the_users_who_are_in_it(pages: Pages) -> None:
    alice, bob = pages.open("chat", "alice"), pages.open("chat", "bob")
    both = [{"socketId": page.sid, "userId": user} for page, user in ((alice, "alice"), (bob, "bob"))]

    def newest() -> Any:
        return [each["data"] for each in pages.all() if each["shown"] == "onlineUsers"][-1:]

    wait_until(lambda: [users[-2:] for users in newest()] == [both], "both are in the list")
    bob.call("disconnect")
    wait_until(lambda: [users[-1:] for users in newest()] == [both[:1]], "bob is gone")


def test_push_of_a_backend_reaches_the_page(pages: Pages, gateway: GatewayProcess) -> None:
    alice = pages.open("notifications", "alice-pushed")
    gateway.push_user("alice-pushed", "notification:new", {"id": "n-1"})

    assert alice.shown("new") == {"id": "n-1"}
