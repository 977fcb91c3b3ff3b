"""The command line against a running gateway, as users and scripts call it; each command is its own process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Journal
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.cli.command_line import environment, run


class ListenCommand:
    """A running ``sio-gateway listen``: events from its standard output, messages from its standard error."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events = Journal("events printed by `listen`")
        self.messages = Journal("messages of `listen`")
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_messages, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            self.events.add(json.loads(line))
        self.events.end()

    def _read_messages(self) -> None:
        for line in self._process.stderr or ():
            self.messages.add({"line": line.rstrip("\n")})
        self.messages.end()

    def wait_for(self, event: str, *, after: int = 0) -> Any:
        """The arguments of the first event of that name from index ``after`` on."""
        return self.events.wait(lambda entry: entry["event"] == event, after=after)["args"]

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send the signal, if one is given, and wait for the exit status and all messages."""
        if number is not None and self._process.poll() is None:
            self._process.send_signal(number)
        status = self._process.wait(TIMEOUT_SECONDS)
        for reader in self._readers:
            reader.join(TIMEOUT_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return status, "\n".join(entry["line"] for entry in self.messages.entries)


StartListen = Callable[..., ListenCommand]


@pytest.fixture
def listen(gateway_process: GatewayProcess) -> Iterator[StartListen]:
    """Starts `listen` commands; at the end those still running get SIGINT, as from Ctrl-C."""
    started: list[ListenCommand] = []

    def start(*arguments: str, **settings: str) -> ListenCommand:
        command = [sys.executable, "-m", "gateway", "listen", *arguments]
        settings = {"URL": gateway_process.url, "JWT_SECRET": gateway_process.jwt_secret} | settings
        started.append(ListenCommand(command, environment(**settings)))
        return started[-1]

    yield start
    for command in started:
        command.end(signal.SIGINT)


def call(gateway: GatewayProcess, *arguments: str, **options: Any) -> tuple[int, Any]:
    """Exit status and JSON answer of a command that calls the REST API."""
    options = {"URL": gateway.url, "KEY": gateway.key_id, "SECRET": gateway.secret} | options
    answer = run(*arguments, **options)
    return answer.returncode, json.loads(answer.stdout)


@pytest.mark.parametrize("transport", [(), ("--transport", "polling"), ("--transport", "websocket")])
def test_event_emitted_to_a_user_is_printed_by_the_listener_of_that_user(
    gateway_process: GatewayProcess, listen: StartListen, user: str, transport: tuple[str, ...]
) -> None:
    listener = listen("--sub", user, *transport)
    assert listener.wait_for("authenticated")[0]["userId"] == user

    status, answer = call(gateway_process, "emit", "user", user, "notification:new", '{"title":"hi ü"}')

    assert (status, answer["online"], answer["connections"]) == (0, True, 1)
    assert listener.wait_for("notification:new") == [{"title": "hi ü"}]


def test_token_created_by_the_command_line_joins_the_rooms_of_its_claims(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    token = run(
        "token", "--sub", user, "--claim", f"orgId={user}", JWT_SECRET=gateway_process.jwt_secret
    ).stdout.strip()
    listener = listen("--token", token)
    listener.wait_for("authenticated")

    assert call(gateway_process, "emit", "room", f"org:{user}", "report:ready", "-", stdin="[1, 2]")[0] == 0
    assert listener.wait_for("report:ready") == [[1, 2]]


def test_broadcast_reaches_every_client_that_is_not_excepted(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    one, other = listen("--sub", user), listen("--sub", user + "-other")
    one.wait_for("authenticated")
    other.wait_for("authenticated")

    call(gateway_process, "emit", "broadcast", "maintenance", "--except", f"user:{user}")
    call(gateway_process, "emit", "broadcast", "done")

    assert other.wait_for("maintenance") == []
    one.wait_for("done")
    assert [entry["event"] for entry in one.events.entries] == ["authenticated", "done"]


def test_listen_and_emit_use_the_given_namespace(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    listener = listen("--sub", user, "--namespace", "/events")
    listener.wait_for("authenticated")

    status, _ = call(
        gateway_process, "emit", "user", user, "e", "{}", "--namespace", "/events", "--timestamp"
    )

    assert status == 0
    assert list(listener.wait_for("e")[0]) == ["timestamp"]


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "ü b", "a?b#c", "+&=;"])
def test_user_id_with_any_characters_is_passed_unchanged(
    gateway_process: GatewayProcess, listen: StartListen, name: str
) -> None:
    listener = listen("--sub", name)
    listener.wait_for("authenticated")

    assert call(gateway_process, "presence", name)[1]["online"] is True
    assert call(gateway_process, "emit", "user", name, "e", '"x"')[0] == 0
    assert listener.wait_for("e") == ["x"]


def test_presence_shows_connect_and_disconnect(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    status, before = call(gateway_process, "presence", user)
    listener = listen("--sub", user)
    listener.wait_for("authenticated")

    assert (status, before["online"]) == (0, False)
    assert len(call(gateway_process, "presence", user)[1]["connections"]) == 1

    assert listener.end(signal.SIGINT)[0] == 0
    assert call(gateway_process, "presence", user)[1]["online"] is False


def test_push_repeated_with_its_idempotency_key_is_delivered_once(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    listener = listen("--sub", user)
    listener.wait_for("authenticated")
    push = ("emit", "user", user, "e", "1", "--idempotency-key", user)

    first, again = call(gateway_process, *push), call(gateway_process, *push)
    call(gateway_process, "emit", "user", user, "done")

    assert first == again
    listener.wait_for("done")
    assert [entry["event"] for entry in listener.events.entries] == ["authenticated", "e", "done"]


def test_emit_with_a_wrong_secret_exits_with_status_1(gateway_process: GatewayProcess) -> None:
    status, answer = call(gateway_process, "emit", "user", "alice", "e", SECRET="w" * 32)

    assert (status, answer["code"]) == (1, "bad_signature")


def test_emit_of_a_reserved_event_name_exits_with_status_1(gateway_process: GatewayProcess) -> None:
    status, answer = call(gateway_process, "emit", "user", "alice", "connect")

    assert (status, answer["code"]) == (1, "invalid_body")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_listener_whose_token_is_rejected_exits_with_the_code(listen: StartListen, transport: str) -> None:
    listener = listen(
        "--sub", "alice", "--transport", transport, JWT_SECRET="another secret, unknown to the gateway"
    )

    status, message = listener.end()

    assert status == 1
    assert message.startswith("Error: the gateway rejected the connection: token_signature_invalid: ")


def test_listener_in_an_unknown_namespace_exits(listen: StartListen) -> None:
    assert listen("--sub", "alice", "--namespace", "/nowhere").end() == (
        1,
        "Error: the gateway rejected the connection: Invalid namespace",
    )


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_listener_disconnected_by_a_backend_exits_with_the_reason(
    gateway_process: GatewayProcess, listen: StartListen, user: str, transport: str
) -> None:
    listener = listen("--sub", user, "--transport", transport)
    listener.wait_for("authenticated")

    gateway_process.backend.disconnect(user)

    status, message = listener.end()
    assert status == 1
    assert "Error: the gateway disconnected the client: kicked: " in message
    assert listener.wait_for("error")[0]["code"] == "kicked"


def test_listener_stopped_by_ctrl_c_exits_without_a_traceback(listen: StartListen, user: str) -> None:
    listener = listen("--sub", user)
    listener.wait_for("authenticated")

    assert listener.end(signal.SIGINT) == (0, "connected to /")


def test_listener_exits_when_its_output_is_closed(gateway_process: GatewayProcess, user: str) -> None:
    read_end, write_end = os.pipe()
    listener = subprocess.Popen(
        [sys.executable, "-m", "gateway", "listen", "--sub", user],
        cwd=ROOT,
        env=environment(URL=gateway_process.url, JWT_SECRET=gateway_process.jwt_secret),
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    with os.fdopen(read_end) as lines:
        assert json.loads(lines.readline())["event"] == "authenticated"
    call(gateway_process, "emit", "user", user, "e")

    messages = listener.communicate(timeout=TIMEOUT_SECONDS)[1]

    assert (listener.returncode, messages) == (0, "connected to /\n")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_listener_reconnects_after_a_restart_of_the_gateway(user: str, transport: str) -> None:
    gateway = GatewayProcess()
    command = [sys.executable, "-m", "gateway", "listen", "--sub", user, "--transport", transport]
    listener = ListenCommand(command, environment(URL=gateway.url, JWT_SECRET=gateway.jwt_secret))
    try:
        listener.wait_for("authenticated")

        gateway.stop()
        gateway.start()

        listener.wait_for("authenticated", after=1)
        gateway.push_user(user, "e", 1)
        assert listener.wait_for("e") == [1]
    finally:
        status, messages = listener.end(signal.SIGINT)
        gateway.stop()
    assert status == 0
    assert "reconnecting in" in messages


def test_commands_printed_by_serve_dev_work_when_pasted() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--dev"],
        cwd=ROOT,
        env=environment(PORT="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        printed = printed_commands(server)
        listener = ListenCommand(["bash", "-c", "exec " + printed["listen as alice"]], environment())
        listener.wait_for("authenticated")

        pushes = [title for title in printed if "listen" not in title and "token" not in title]
        answers = {title: run_pasted(printed[title]) for title in (*pushes, "a token for another user")}

        for title in pushes:
            assert '"online":true' in answers[title].replace(" ", ""), title
        assert re.fullmatch(r"ey[\w-]+\.[\w-]+\.[\w-]+\n", answers["a token for another user"])
        emitted = len(pushes) - 1  # without the presence command
        listener.events.wait(bool, after=emitted)
        assert [entry["args"] for entry in listener.events.entries[1:]] == [[{"title": "hi"}]] * emitted
        assert listener.end(signal.SIGINT)[0] == 0
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=TIMEOUT_SECONDS)
    assert server.returncode == 0


def printed_commands(server: subprocess.Popen[str]) -> dict[str, str]:
    """The commands that the server prints, by their titles."""
    commands: dict[str, str] = {}
    title = ""
    for line in server.stdout or ():
        if line.startswith("Ctrl-C"):
            return commands
        if line.startswith("  # "):
            title = line.removeprefix("  # ").strip()
        elif title and line.strip():
            commands[title] = line.strip()
            title = ""
    raise AssertionError("the server exited before it printed every command")


def run_pasted(command: str) -> str:
    """The standard output of a command in a new shell, in the root of the repository."""
    answer = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert answer.returncode == 0, answer
    return answer.stdout


def test_headers_of_sign_are_accepted_once(gateway_process: GatewayProcess, user: str) -> None:
    body = json.dumps({"event": "hi"})
    target = f"/emit/user/{user}"
    keys = {"URL": gateway_process.url, "KEY": gateway_process.key_id, "SECRET": gateway_process.secret}
    printed = run("sign", "post", target, body, **keys).stdout
    headers = dict(line.split(": ", 1) for line in printed.splitlines())

    def send() -> int:
        request = urllib.request.Request(gateway_process.url + target, body.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert (send(), send()) == (200, 401)


def test_curl_command_of_sign_runs_as_printed(gateway_process: GatewayProcess, user: str) -> None:
    keys = {"URL": gateway_process.url, "KEY": gateway_process.key_id, "SECRET": gateway_process.secret}
    body = '{"event":"it\'s","data":"$HOME ü"}'
    command = run("sign", "--curl", "POST", f"/emit/user/{user}%2Fb", "-", stdin=body, **keys).stdout

    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout)["room"] == f"user:{user}/b"


@pytest.mark.parametrize("target", ["emit/user/alice", "/emit/user/ü", "/emit/user/a b"])
def test_sign_rejects_a_target_that_no_request_line_has(target: str) -> None:
    answer = run("sign", "GET", target, KEY="shop", SECRET="x" * 32)

    assert answer.returncode == 2
    assert "is not a target such as /emit/user/alice" in answer.stderr


def test_disconnect_ends_the_connections_of_a_user_and_revokes_the_token(
    gateway_process: GatewayProcess, listen: StartListen, user: str
) -> None:
    token = gateway_process.token(user)
    listener = listen("--token", token)
    listener.wait_for("authenticated")

    status, answer = call(gateway_process, "disconnect", "user", user, "--revoke")

    assert (status, answer) == (0, {"disconnected": 1})
    assert listener.end()[0] == 1
    assert "token_revoked" in listen("--token", token).end()[1]


def test_port_and_host_of_serve_override_the_environment() -> None:
    port = free_port()
    gateway = GatewayProcess(arguments=("--host", "127.0.0.1", "--port", str(port)), port=1, host="::1")
    try:
        assert gateway.ports == [port]
    finally:
        gateway.kill()
