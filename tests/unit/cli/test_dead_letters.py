"""``webhooks list``, ``dead``, ``replay`` and ``drop`` on the wire: requests, output and exit statuses.

The server is one of the standard library that has dead letters in pages. ``tests/e2e/test_dead_letters.py`` has a
gateway.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.ports import free_port
from tests.unit.cli.command_line import run

KEYS = "first:the secret that backends sign with"
PAGE = 100


class Gateway:
    """Has dead letters with the ids ``ids``. From the request number ``fails_at`` on it answers with a 503."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.fails_at = 10**9
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                gateway.requests.append((self.command, self.path, json.loads(body) if body else None))
                status, answer = gateway.answer()
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815  # the name is that of the method

            def log_message(self, *_arguments: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def answer(self) -> tuple[int, Any]:
        if len(self.requests) >= self.fails_at:
            return 503, {"status": 503, "code": "webhook_queue_full", "detail": "the queue is full"}
        method, target, body = self.requests[-1]
        if method == "POST":
            return 200, {"replayed" if target.endswith("replay") else "dropped": len(body["ids"])}
        if target == "/webhooks":
            return 200, {"webhooks": [{"id": "app", "entries": 1}, {"id": "crm", "entries": 0}]}
        start = int(parse_qs(urlsplit(target).query).get("cursor", ["0"])[0])
        end = start + PAGE
        return 200, {
            "dead": [letter(each) for each in self.ids[start:end]],
            "next": str(end) if end < len(self.ids) else None,
        }

    def posted(self) -> list[list[str]]:
        """Return the ids of each request that changes something."""
        return [body["ids"] for method, _, body in self.requests if method == "POST"]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def letter(id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "user": "42",
        "type": "user.online",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "reason": "expired",
        "status": None,
        "dead_at": "2026-11-21T12:00:01.000Z",
        "data": {"text": "ü"},
    }


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.stop()


def command(gateway: Gateway, *arguments: str) -> tuple[int, str, str]:
    """Run ``webhooks`` with arguments; return exit status, output and errors."""
    done = run("webhooks", *arguments, INGEST_KEYS=KEYS, URL=gateway.url)
    return done.returncode, done.stdout, done.stderr


def test_list_prints_a_line_for_each_webhook(gateway: Gateway) -> None:
    status, output, errors = command(gateway, "list")

    assert [json.loads(line) for line in output.splitlines()] == [
        {"id": "app", "entries": 1}, {"id": "crm", "entries": 0}
    ]  # fmt: skip
    assert (status, errors) == (0, "")


def test_dead_prints_a_table_of_all_pages(gateway: Gateway) -> None:
    gateway.ids = [f"letter-{number}" for number in range(201)]

    status, output, _ = command(gateway, "dead", "app")

    first, *lines = output.splitlines()
    assert status == 0
    assert first.split() == ["ID", "USER", "TYPE", "REASON", "STATUS", "DEAD_AT"]
    assert lines[0].split() == ["letter-0", "42", "user.online", "expired", "-", "2026-11-21T12:00:01.000Z"]
    assert [line.split()[0] for line in lines] == gateway.ids
    assert {line.index("user.online") for line in lines} == {first.index("TYPE")}
    assert [target for _, target, _ in gateway.requests] == [
        "/webhooks/app/dead", "/webhooks/app/dead?cursor=100", "/webhooks/app/dead?cursor=200"
    ]  # fmt: skip


def test_dead_prints_nothing_without_dead_letters(gateway: Gateway) -> None:
    assert command(gateway, "dead", "app") == (0, "", "")
    assert command(gateway, "dead", "app", "--json") == (0, "", "")


def test_dead_with_json_prints_a_line_for_each_with_its_data(gateway: Gateway) -> None:
    gateway.ids = ["a", "b"]

    _, output, _ = command(gateway, "dead", "app", "--json")

    assert [json.loads(line) for line in output.splitlines()] == [letter("a"), letter("b")]
    assert '"ü"' in output


def test_id_of_a_webhook_is_percent_encoded(gateway: Gateway) -> None:
    command(gateway, "dead", "a/b ü")

    assert gateway.requests[0][1] == "/webhooks/a%2Fb%20%C3%BC/dead"


@pytest.mark.parametrize(("name", "member"), [("replay", "replayed"), ("drop", "dropped")])
def test_named_letters_are_changed_in_requests_of_a_hundred(gateway: Gateway, name: str, member: str) -> None:
    ids = [f"letter-{number}" for number in range(250)]

    status, output, _ = command(gateway, name, "app", *ids)

    assert (status, json.loads(output)) == (0, {member: 250})
    assert gateway.posted() == [ids[:100], ids[100:200], ids[200:]]
    assert {target for _, target, _ in gateway.requests} == {f"/webhooks/app/{name}"}


@pytest.mark.parametrize("name", ["replay", "drop"])
def test_all_letters_are_found_before_the_first_is_changed(gateway: Gateway, name: str) -> None:
    gateway.ids = [f"letter-{number}" for number in range(150)]

    status, output, _ = command(gateway, name, "app", "--all")

    assert (status, list(json.loads(output).values())) == (0, [150])
    assert [method for method, _, _ in gateway.requests] == ["GET", "GET", "POST", "POST"]
    assert sum(gateway.posted(), start=[]) == gateway.ids  # noqa: RUF017  # two lists


@pytest.mark.parametrize(
    "ids",
    [
        ["-Ix5iGJbuW-p69tt_HUDu1S7jCzXqRDYd"],
        ["-hx5iGJbuW-p69tt_HUDu1S7jCzXqRDYd"],
        ["a", "--5iGJbuW-p69tt_HUDu1S7jCzXqRDYd", "b"],
    ],
)
def test_id_may_begin_with_a_hyphen(gateway: Gateway, ids: list[str]) -> None:
    status, _, errors = command(gateway, "replay", "app", *ids, "--url", gateway.url)

    assert (status, errors) == (0, "")
    assert sorted(gateway.posted()[0]) == sorted(ids)


def test_id_behind_two_hyphens_is_never_an_option(gateway: Gateway) -> None:
    assert command(gateway, "drop", "app", "--", "--all", "-h")[0] == 0

    assert gateway.posted() == [["--all", "-h"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "app"), "name the dead letters, or use --all"),
        (("replay", "app", "a", "--all"), "name the dead letters, or use --all"),
        (("drop", "app"), "name the dead letters, or use --all"),
        (("replay", "app", "--al"), "No such option"),
        (("dead",), "Missing argument 'ID'"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_no_request(
    gateway: Gateway, arguments: tuple[str, ...], words: str
) -> None:
    status, output, errors = command(gateway, *arguments)

    assert (status, output) == (2, "")
    assert words in errors
    assert gateway.requests == []


def test_rejection_ends_with_status_1_and_what_was_changed_before(gateway: Gateway) -> None:
    gateway.fails_at = 3

    status, output, errors = command(gateway, "replay", "app", *[f"letter-{each}" for each in range(250)])

    assert (status, json.loads(output)["code"]) == (1, "webhook_queue_full")
    assert "503 webhook_queue_full: the queue is full (200 were replayed before)" in errors


def test_gateway_that_does_not_answer_ends_with_status_3() -> None:
    done = run("webhooks", "list", "--url", "http://127.0.0.1:9", INGEST_KEYS=KEYS)

    assert (done.returncode, done.stdout) == (3, "")
    assert "no gateway answers at http://127.0.0.1:9" in done.stderr
