"""The front-end examples, as a front-end developer meets them: type-checked, and run against a live gateway."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.paths import ROOT

HERE = Path(__file__).parent
EXAMPLES = ROOT / "examples" / "frontend"
NODE = [sys.executable, str(ROOT / "tools" / "node.py")]
MEMBER_SECONDS = 15
USER = "frontend"


@pytest.fixture(scope="module")
def page_script() -> Path:
    """The examples and the page of this test, type-checked and compiled."""
    compiler = HERE / "node_modules" / "typescript" / "bin" / "tsc"
    assert compiler.exists(), "the packages of tests/integration/frontend are missing: run `make install-dev`"
    checked = subprocess.run(
        [*NODE, str(compiler), "-p", str(HERE / "tsconfig.json")], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked
    return HERE / "build" / "tests" / "integration" / "frontend" / "page.js"


class Program:
    """A program under Node; every line that it prints is an entry."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*NODE, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
        )
        self.journal = Journal(f"{Path(command[0]).name} printed")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def shows(self, wanted: Callable[[Entry], bool]) -> Entry:
        return self.journal.wait(wanted)

    def ends(self) -> int:
        """Its exit status, once it ended by itself."""
        status = self.process.wait(15)
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.journal.add(json.loads(line) if line.startswith("{") else {"line": line.rstrip("\n")})
        self.journal.end()


@contextmanager
def program(*command: str) -> Iterator[Program]:
    running = Program(*command)
    try:
        yield running
    finally:
        running.process.kill()
        running.ends()
        assert running.process.stdin is not None
        running.process.stdin.close()


def status(text: str) -> Callable[[Entry], bool]:
    return lambda shown: shown.get("status") == text


def test_the_hook_shows_a_push_once_although_strict_mode_mounts_it_twice(
    page_script: Path, gateway_process: GatewayProcess
):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.shows(status("live"))
        answers = [gateway_process.push_user(USER, "notification:new", {"title": t}) for t in ("one", "two")]
        shown = page.shows(lambda entry: len(entry.get("items", ())) >= 2)

    assert [answer["connections"] for answer in answers] == [1, 1]
    assert shown["items"] == ["two", "one"]


def test_a_render_does_not_reconnect(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        before = page.shows(status("live"))["asked"]
        for _ in range(3):
            page.tell("render")
        gateway_process.push_user(USER, "notification:new", {"title": "still there"})
        shown = page.shows(lambda entry: entry.get("items") == ["still there"])

    assert shown["asked"] == before


def test_unmounting_leaves_nothing_behind(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.shows(status("live"))
        page.tell("unmount")

        assert page.ends() == 0
    assert gateway_process.backend.presence(USER)["online"] is False


def test_a_namespace_is_part_of_the_address(page_script: Path, gateway_process: GatewayProcess):
    url = f"{gateway_process.url}/notifications"
    with program(str(page_script), url, gateway_process.token(USER)) as page:
        page.shows(status("live"))
        gateway_process.push_user(USER, "notification:new", {"title": "x"}, namespace="/notifications")

        assert page.shows(lambda entry: bool(entry.get("items")))["items"] == ["x"]


def test_a_refusal_is_shown_with_its_code(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, "no token at all") as page:
        page.shows(status("please log in again (token_malformed)"))


def test_a_stale_token_of_a_cache_is_replaced_once(page_script: Path, gateway_process: GatewayProcess):
    stale = gateway_process.token(USER, lifetime_seconds=-60)
    with program(str(page_script), gateway_process.url, stale, gateway_process.token(USER)) as page:
        assert page.shows(status("live"))["asked"] == [False, True]
    with program(str(page_script), gateway_process.url, stale) as page:
        page.shows(status("please log in again (token_expired)"))


def test_a_token_that_runs_out_is_replaced_on_the_open_connection(
    page_script: Path, gateway_process: GatewayProcess
):
    ending = gateway_process.token(USER, lifetime_seconds=4)
    lasting = gateway_process.token(USER, orgId="refreshed")
    with program(str(page_script), gateway_process.url, ending, lasting) as page:
        page.shows(status("live"))
        # The room comes with the second token: once it has a member, the token was taken.
        wait_for_member(gateway_process, "org:refreshed")
        page.tell("look")
        page.shows(lambda entry: entry.get("asked", ())[-1:] == [True])
        assert not any("connecting" in str(entry.get("status")) for entry in after_live(page))


def test_when_there_is_no_token_to_be_had_the_hook_asks_again_and_gets_in(
    page_script: Path, gateway_process: GatewayProcess
):
    tokens = ("unavailable", "unavailable", gateway_process.token(USER))
    with program(str(page_script), gateway_process.url, *tokens) as page:
        assert page.shows(status("live"))["asked"] == [False, False, False]


def test_a_restart_of_the_gateway_is_survived(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.shows(status("live"))
        gateway_process.stop()
        page.shows(lambda entry: entry.get("status") == "connecting" and entry["asked"] == [False])
        gateway_process.start()

        page.shows(lambda entry: entry.get("status") == "live" and entry["asked"] == [False, False])


def test_who_is_let_go_by_a_backend_stays_away(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.shows(status("live"))
        gateway_process.backend.disconnect(USER)

        page.shows(status("ended (kicked)"))


def test_the_program_for_node_prints_what_arrives(page_script: Path, gateway_process: GatewayProcess):
    # Under build/, so that it finds the packages of this folder.
    copy = page_script.with_name("vanilla.mjs")
    copy.write_bytes((EXAMPLES / "vanilla.mjs").read_bytes())
    with program(str(copy), gateway_process.url, gateway_process.token(USER)) as listener:
        listener.shows(lambda entry: str(entry.get("line")).startswith("authenticated"))
        gateway_process.push_user(USER, "notification:new", {"title": "hello"})
        listener.shows(lambda entry: str(entry.get("line")).startswith('notification:new [{"title":"hello"}'))
    with program(str(copy), gateway_process.url, "nonsense") as listener:
        assert listener.ends() == 1


def wait_for_member(gateway: GatewayProcess, room: str) -> None:
    """Asks until somebody is in the room; each question is a volatile event that nobody shows."""
    deadline = time.monotonic() + MEMBER_SECONDS
    while time.monotonic() < deadline:
        answer: Any = gateway.backend.push_room(room, "probe", volatile=True).body
        if answer["online"]:
            return
    raise AssertionError(f"nobody came into {room}")


def after_live(page: Program) -> list[Entry]:
    entries = page.journal.entries
    return entries[next(index for index, entry in enumerate(entries) if entry.get("status") == "live") :]
