"""The front-end examples, type-checked and run against a live gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

HERE = Path(__file__).parent
EXAMPLES = ROOT / "examples" / "frontend"
NODE = [sys.executable, str(ROOT / "tools" / "node.py")]
USER = "frontend"


@pytest.fixture(scope="module")
def page_script() -> Path:
    """The path of the compiled page; the examples and the page are type-checked first."""
    compiler = HERE / "node_modules" / "typescript" / "bin" / "tsc"
    assert compiler.exists(), "the packages of tests/integration/frontend are missing: run `make install-dev`"
    checked = subprocess.run(
        [*NODE, str(compiler), "-p", str(HERE / "tsconfig.json")], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked
    return HERE / "build" / "tests" / "integration" / "frontend" / "page.js"


class Program:
    """A Node program; each line that it prints is an entry of its journal."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*NODE, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
        )
        self.journal = Journal(f"{Path(command[0]).name} printed")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, command: str) -> None:
        """Write a command to the standard input of the program."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def wait(self, wanted: Callable[[Entry], bool]) -> Entry:
        """Wait for an entry that ``wanted`` accepts, and return it."""
        return self.journal.wait(wanted)

    def wait_exit(self) -> int:
        """Wait until the program has ended by itself. Returns its exit status."""
        status = self.process.wait(TIMEOUT_SECONDS)
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
    """Run a Node program, and kill it in the end."""
    running = Program(*command)
    try:
        yield running
    finally:
        running.process.kill()
        running.wait_exit()
        assert running.process.stdin is not None
        running.process.stdin.close()


def status(text: str) -> Callable[[Entry], bool]:
    """Return a function that accepts entries with this status line."""
    return lambda shown: shown.get("status") == text


def test_hook_shows_a_push_once_although_strict_mode_mounts_it_twice(
    page_script: Path, gateway_process: GatewayProcess
):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.wait(status("live"))
        responses = [
            gateway_process.push_user(USER, "notification:new", {"title": t}) for t in ("one", "two")
        ]
        shown = page.wait(lambda entry: len(entry.get("items", ())) >= 2)

    assert [response["connections"] for response in responses] == [1, 1]
    assert shown["items"] == ["two", "one"]


def test_render_does_not_reconnect(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        before = page.wait(status("live"))["calls"]
        for _ in range(3):
            page.send("render")
        gateway_process.push_user(USER, "notification:new", {"title": "still there"})
        shown = page.wait(lambda entry: entry.get("items") == ["still there"])

    assert shown["calls"] == before


def test_unmounting_closes_the_connection(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.wait(status("live"))
        page.send("unmount")

        assert page.wait_exit() == 0
    assert gateway_process.backend.presence(USER)["online"] is False


def test_namespace_is_part_of_the_address(page_script: Path, gateway_process: GatewayProcess):
    url = f"{gateway_process.url}/notifications"
    with program(str(page_script), url, gateway_process.token(USER)) as page:
        page.wait(status("live"))
        gateway_process.push_user(USER, "notification:new", {"title": "x"}, namespace="/notifications")

        assert page.wait(lambda entry: bool(entry.get("items")))["items"] == ["x"]


def test_rejection_is_shown_with_its_code(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, "no token at all") as page:
        page.wait(status("please log in again (token_malformed)"))


def test_stale_token_of_a_cache_is_replaced_once(page_script: Path, gateway_process: GatewayProcess):
    stale = gateway_process.token(USER, lifetime_seconds=-60)
    with program(str(page_script), gateway_process.url, stale, gateway_process.token(USER)) as page:
        assert page.wait(status("live"))["calls"] == [False, True]
    with program(str(page_script), gateway_process.url, stale) as page:
        page.wait(status("please log in again (token_expired)"))


def test_hook_retries_when_a_token_of_a_backend_whose_clock_is_ahead_is_active(
    page_script: Path, gateway_process: GatewayProcess
):
    # The clock is more than ten seconds ahead, so that the token is not only held.
    early = gateway_process.token(USER, iat=int(time.time()) + 18)
    with program(str(page_script), gateway_process.url, early) as page:
        assert page.wait(status("live"))["calls"] == [False, False]


def test_expiring_token_is_replaced_on_the_open_connection(
    page_script: Path, gateway_process: GatewayProcess
):
    ending = gateway_process.token(USER, lifetime_seconds=4)
    lasting = gateway_process.token(USER, orgId="refreshed")
    with program(str(page_script), gateway_process.url, ending, lasting) as page:
        page.wait(status("live"))
        # Only the second token has the claim of the room: once the room has a member, the token was accepted.
        wait_for_member(gateway_process, "org:refreshed")
        page.send("look")
        page.wait(lambda entry: entry.get("calls", ())[-1:] == [True])
        assert not any("connecting" in str(entry.get("status")) for entry in after_live(page))


def test_hook_requests_a_token_again_if_the_issuer_is_unavailable(
    page_script: Path, gateway_process: GatewayProcess
):
    tokens = ("unavailable", "unavailable", gateway_process.token(USER))
    with program(str(page_script), gateway_process.url, *tokens) as page:
        assert page.wait(status("live"))["calls"] == [False, False, False]


def test_hook_reconnects_after_a_restart_of_the_gateway(page_script: Path, gateway_process: GatewayProcess):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.wait(status("live"))
        gateway_process.stop()
        page.wait(lambda entry: entry.get("status") == "connecting" and entry["calls"] == [False])
        gateway_process.start()

        page.wait(lambda entry: entry.get("status") == "live" and entry["calls"] == [False, False])


def test_hook_does_not_reconnect_after_a_disconnect_by_a_backend(
    page_script: Path, gateway_process: GatewayProcess
):
    with program(str(page_script), gateway_process.url, gateway_process.token(USER)) as page:
        page.wait(status("live"))
        gateway_process.backend.disconnect(USER)

        page.wait(status("ended (kicked)"))


def test_hook_shows_whether_missed_events_were_recovered(page_script: Path, gateway_process: GatewayProcess):
    with (
        TcpProxy(gateway_process.ports[0]) as proxy,
        program(str(page_script), proxy.http_url, gateway_process.token(USER)) as page,
    ):
        page.wait(status("live"))
        proxy.break_connections()
        gateway_process.push_user(USER, "notification:new", {"title": "missed"})
        proxy.accept_connections()

        shown = page.wait(status("live, nothing missed"))
        page.wait(lambda entry: entry.get("items") == ["missed"])
        assert shown["calls"] == [False, False]


def test_examples_pass_the_recommended_rules_of_the_linter_of_react() -> None:
    linter = HERE / "node_modules" / "eslint" / "bin" / "eslint.js"
    files = [str(EXAMPLES / name) for name in ("useSocket.ts", "Notifications.tsx")]
    found = subprocess.run(
        [*NODE, str(linter), "--max-warnings=0", "-c", str(HERE / "eslint.config.mjs"), *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stdout) == (0, ""), found


def test_hook_is_a_client_module_for_next() -> None:
    lines = (EXAMPLES / "useSocket.ts").read_text(encoding="utf-8").splitlines()

    assert next(line for line in lines if not line.startswith("//")).startswith('"use client";')


@pytest.mark.parametrize(("user", "answered"), [(USER, 200), ("", 401)])
def test_route_of_next_returns_a_token_of_the_logged_in_user(
    page_script: Path, gateway_process: GatewayProcess, node: NodeClients, user: str, answered: int
):
    build = page_script.parents[3]
    session = build / "node_modules" / "@" / "lib" / "session.js"  # where the alias of a Next project leads
    session.parent.mkdir(parents=True, exist_ok=True)
    session.write_text(f"module.exports = require({json.dumps(str(page_script.with_name('session.js')))});")
    route = json.dumps(str(build / "examples" / "frontend" / "next" / "route.js"))
    printed = subprocess.run(
        [*NODE, "-e", f"require({route}).GET().then(async (r) => console.log(r.status, await r.text()))"],
        env=os.environ | {"SESSION_USER": user, "GATEWAY_JWT_SECRET": gateway_process.jwt_secret},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found, _, body = printed.partition(" ")

    assert int(found) == answered
    if answered == 200:
        client = node.open(gateway_process.url, token=json.loads(body)["token"]).connected()
        assert client.event("authenticated")[0]["userId"] == user
        assert gateway_process.backend.push_room("org:7", "e").body["online"] is True


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_page_of_a_vite_server_connects_through_its_proxy(
    gateway_process: GatewayProcess, node: NodeClients, tmp_path: Path, transport: str
):
    (tmp_path / "vite.config.ts").write_bytes((EXAMPLES / "vite.config.ts").read_bytes())
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    port = free_port()
    vite = str(HERE / "node_modules" / "vite" / "bin" / "vite.js")
    server = subprocess.Popen(
        [*NODE, vite, "--host", "127.0.0.1", "--port", str(port), "--strictPort"],
        cwd=tmp_path,
        env=os.environ | {"GATEWAY_PORT": str(gateway_process.ports[0])},
        stdout=subprocess.DEVNULL,
    )
    try:
        token = gateway_process.token(USER)
        client = node.open(f"http://127.0.0.1:{port}", token=token, transports=[transport])
        client.connected()  # the client retries until the server listens
        gateway_process.push_user(USER, "hello")
        client.event("hello")
        client.disconnect()
    finally:
        server.terminate()
        server.wait(TIMEOUT_SECONDS)


def test_node_program_prints_received_events(page_script: Path, gateway_process: GatewayProcess):
    # Under build/, so that it finds the packages of this folder.
    copy = page_script.with_name("vanilla.mjs")
    copy.write_bytes((EXAMPLES / "vanilla.mjs").read_bytes())
    with program(str(copy), gateway_process.url, gateway_process.token(USER)) as listener:
        listener.wait(lambda entry: str(entry.get("line")).startswith("authenticated"))
        gateway_process.push_user(USER, "notification:new", {"title": "hello"})
        listener.wait(lambda entry: str(entry.get("line")).startswith('notification:new [{"title":"hello"}'))
    with program(str(copy), gateway_process.url, "nonsense") as listener:
        assert listener.wait_exit() == 1


def wait_for_member(gateway: GatewayProcess, room: str) -> None:
    """Push a volatile event, which the page does not show, until the room has a member."""
    wait_until(
        lambda: gateway.backend.push_room(room, "probe", volatile=True).body["online"],
        f"a client joined {room}",
    )


def after_live(page: Program) -> list[Entry]:
    """Return the entries from the first with the status line ``live`` on."""
    entries = page.journal.entries
    return entries[next(index for index, entry in enumerate(entries) if entry.get("status") == "live") :]
