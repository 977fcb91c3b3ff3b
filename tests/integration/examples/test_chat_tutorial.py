"""docs/tutorials/chat.md: its commands, pasted in their order, do what the page promises.

Ports are free ones, `make run` is what the Makefile executes, secrets and tokens are those that the gateway printed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.examples.languages import node
from tests.support.clients import NodeClients
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

PAGE = (ROOT / "docs" / "tutorials" / "chat.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "chat"
ROOM = "chat:lobby"


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


class Terminal:
    """A shell in a folder that has the examples, where commands of the page are pasted."""

    def __init__(self, folder: Path) -> None:
        self.gateway_port, self._page_port, self._backend_port = free_port(), free_port(), free_port()
        self._folder = folder
        (folder / "examples").symlink_to(ROOT / "examples")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self._page_port}/"

    def run(self, command: str) -> str:
        """Run a command to its end, and return what it prints."""
        done = subprocess.run(
            ["bash", "-c", self._adapted(command)],
            check=False,
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, command: str, until: str | None = None) -> Iterator[str]:
        """Run a command in the background; the value is what it printed up to the line with ``until``.

        Without ``until`` it is the backend, which prints nothing before the first event: wait until it listens.
        """
        process = subprocess.Popen(
            ["bash", "-c", f"exec env {self._adapted(command)}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=self._environment(),
        )
        assert process.stdout is not None
        try:
            printed = ""
            while until is not None and until not in printed:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            if until is None:
                wait_until(lambda: is_open(self._backend_port), "the backend listens")
            yield printed
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            process.wait(TIMEOUT_SECONDS)
            process.stdout.close()

    def _adapted(self, command: str) -> str:
        used = {
            "make run": f"{sys.executable} -m gateway serve --dev",
            ".venv/bin/python": sys.executable,
            "python3 -m http.server 8000": f"{sys.executable} -u -m http.server {self._page_port}",
            "python3": sys.executable,
            "127.0.0.1:3000": f"127.0.0.1:{self._backend_port}",
        }
        shown = "|".join(re.escape(each) for each in used)
        return re.sub(shown, lambda match: used[match[0]], command)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        ports = {"GATEWAY_PORT": str(self.gateway_port), "PORT": str(self._backend_port)}
        return inherited | ports | {"PYTHONPATH": str(ROOT)}


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def found(pattern: str, text: str) -> str:
    """Return the first group of a pattern in a text."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, text
    return match[1]


def token_in(printed: str) -> str:
    return found(r"^  (ey\S+)$", printed)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_two_users_chat_and_a_backend_pushes(terminal: Terminal) -> None:
    start, serve, other_token, push, *_ = blocks("sh")
    clients = NodeClients()
    with (
        terminal.running(start, until="Ctrl-C ends") as printed,
        terminal.running(serve, until="Serving HTTP"),
    ):
        page = terminal.run(f"curl -sf {terminal.page_url}")
        assert "chat:message" in page
        secret = found(r"GATEWAY_JWT_SECRET=(\S+)", printed)
        bobs = terminal.run(
            other_token.replace("GATEWAY_JWT_SECRET=…", f"GATEWAY_JWT_SECRET={secret}")
        ).strip()
        alice = clients.open(terminal.url, token=token_in(printed)).connected()
        bob = clients.open(terminal.url, token=bobs).connected()
        assert alice.emit_with_ack("chat:join", ROOM) == {"room": ROOM}
        assert bob.emit_with_ack("chat:join", ROOM) == {"room": ROOM}
        assert alice.event("chat:joined") == [{"user": "bob", "room": ROOM}]
        for page_of in (alice, bob):
            page_of.wait("event", event="chat:online", args=[["alice", "bob"]])

        bob.emit("chat:typing", ROOM)
        assert alice.event("chat:typing") == [{"user": "bob"}]
        assert bob.emit_with_ack("chat:message", {"room": ROOM, "text": "hello"}) == {"sent": True}
        (message,) = alice.event("chat:message")
        assert (message["user"], message["text"]) == ("bob", "hello")

        ingest_secret = found(r"GATEWAY_SECRET=(\S+)", printed)
        terminal.run(push.replace("GATEWAY_SECRET=…", f"GATEWAY_SECRET={ingest_secret}"))
        assert alice.event("chat:message", count=2)[0]["user"] == "robot"

        answers = [bob.emit_with_ack("chat:message", {"room": ROOM, "text": "again"}) for _ in range(30)]
        assert "rate_limited" in {answer.get("error", {}).get("code") for answer in answers}
        clients.stop()


def test_backend_answers_an_event_of_a_page(terminal: Terminal, tmp_path: Path) -> None:
    *_, append, receiver, start = blocks("sh")
    (console,) = blocks("js")
    terminal.run(append)
    with terminal.running(receiver), terminal.running(start, until="Ctrl-C ends") as printed:
        script = console.replace("PASTE-THE-TOKEN", token_in(printed))
        script = script.replace("http://127.0.0.1:8080", terminal.url)
        assert run_in_console(script, tmp_path) == ["read n-1", "{ success: true }"]
        assert "not_yours" in "".join(run_in_console(script.replace("n-1", "x-1"), tmp_path))


def run_in_console(script: str, folder: Path) -> list[str]:
    """Run a script as the console of the page does, where `io` is defined; return the lines that it prints."""
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(ROOT / "tests" / "integration" / "frontend" / "node_modules")
    file = folder / "console.mjs"
    file.write_text(
        f'import {{ io }} from "socket.io-client";\n{script}\nsocket.disconnect();\n', encoding="utf-8"
    )
    done = subprocess.run(
        [node(), str(file)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_entry_on_the_page_is_that_of_the_example() -> None:
    (entry,) = blocks("yaml")

    assert entry in (EXAMPLE / "events.yaml").read_text(encoding="utf-8")


def test_make_run_executes_the_command_that_these_tests_use() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert "/sio-gateway serve --dev" in found(r"^run: .*\n\t(.*)$", makefile)


def test_page_sends_events_of_the_catalogue_only() -> None:
    page = (EXAMPLE / "index.html").read_text(encoding="utf-8")
    catalogue = (EXAMPLE / "events.yaml").read_text(encoding="utf-8")
    sent = set(re.findall(r'\.emit(?:WithAck)?\("([^"]+)"', page))

    assert sent
    assert [event for event in sent if f"      {event}:\n" not in catalogue] == []
    assert json.dumps("chat:joined") in page
