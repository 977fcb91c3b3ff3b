"""``emit`` and ``presence`` on the wire: requests, output and exit statuses.

The server is one of the standard library that keeps the received requests. ``tests/e2e/test_cli.py`` shows that a
gateway accepts them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.unit.cli.command_line import run

SECRET = "the secret that backends sign with"
OTHER = "another secret that backends sign with"


@dataclass
class Recorder:
    """The received requests, and the response to each: ``status`` and ``body``."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"id":"1","online":true}'
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    record = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            record.requests.append((self.command, self.path, dict(self.headers.items()), body))
            self.send_response(record.status)
            self.send_header("Content-Length", str(len(record.body)))
            self.end_headers()
            self.wfile.write(record.body)

        do_POST = do_GET  # noqa: N815  # the name is that of the method

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", free_port()), Handler)
    record.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield record
    server.shutdown()
    thread.join()
    server.server_close()


def signature(method: str, target: str, headers: dict[str, str], body: bytes, secret: str = SECRET) -> str:
    """Sign as docs/reference/signing.md says. Written again here, so that the code is not tested with itself."""
    text = "\n".join(
        [
            *("v1", headers["X-Gateway-Key"], method, target),
            *(headers["X-Gateway-Timestamp"], headers["X-Gateway-Nonce"], headers.get("Idempotency-Key", "")),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    return "v1=" + hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()


KEYS = f"first:{SECRET},second:{OTHER}"


@pytest.mark.parametrize(
    ("arguments", "target", "body"),
    [
        (("emit", "user", "alice", "e", '{"a":1}'), "/emit/user/alice", {"event": "e", "data": {"a": 1}}),
        (("emit", "user", "a/b ü%2F", "e"), "/emit/user/a%2Fb%20%C3%BC%252F", {"event": "e"}),
        (("emit", "user", "alice", "e", "null"), "/emit/user/alice", {"event": "e", "data": None}),
        (("emit", "room", "org:7", "e", '"x"'), "/emit/room", {"room": "org:7", "event": "e", "data": "x"}),
        (
            ("emit", "room", "a", "e", "--also", "b", "--also", "c"),
            "/emit/room",
            {"rooms": ["a", "b", "c"], "event": "e"},
        ),
        (
            ("emit", "users", "a,b", "e", "1", "--also", "c,d", "--all", "x", "--all", "y"),
            "/emit/users",
            {"users": ["a", "b", "c,d"], "event": "e", "data": 1, "all": ["x", "y"]},
        ),
        (("emit", "user", "alice", "e", "--ttl", "3600"), "/emit/user/alice", {"event": "e", "ttl": 3600}),
        (("emit", "users", "a", "e", "--ttl", "1"), "/emit/users", {"users": ["a"], "event": "e", "ttl": 1}),
        (
            ("emit", "user", "alice", "e", '{"a":"AAE="}', "--binary", "/data/a"),
            "/emit/user/alice",
            {"event": "e", "data": {"a": "AAE="}, "binary": ["/data/a"]},
        ),
        (
            (
                "emit",
                "broadcast",
                "e",
                "{}",
                "--namespace",
                "/n",
                "--except",
                "r",
                "--volatile",
                "--timestamp",
            ),
            "/broadcast",
            {
                "event": "e",
                "namespace": "/n",
                "except": ["r"],
                "volatile": True,
                "timestamp": True,
                "data": {},
            },
        ),
    ],
)
def test_push_is_signed_with_the_first_key_as_it_is_sent(
    recorder: Recorder, arguments: tuple[str, ...], target: str, body: dict[str, Any]
) -> None:
    answer = run(*arguments, "--url", recorder.url, INGEST_KEYS=KEYS)

    ((method, path, headers, sent),) = recorder.requests
    assert (method, path, json.loads(sent)) == ("POST", target, body)
    assert headers["X-Gateway-Key"] == "first"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Gateway-Signature"] == signature(method, path, headers, sent)
    assert (answer.returncode, json.loads(answer.stdout), answer.stderr) == (
        0,
        {"id": "1", "online": True},
        "",
    )


def test_presence_sends_a_signed_get(recorder: Recorder) -> None:
    answer = run("presence", "a b", "--url", recorder.url + "/push/", INGEST_KEYS=KEYS)

    ((method, path, headers, sent),) = recorder.requests
    assert (answer.returncode, method, path, sent) == (0, "GET", "/push/presence/a%20b", b"")
    assert headers["X-Gateway-Signature"] == signature(method, path, headers, sent)


def test_data_is_sent_verbatim(recorder: Recorder) -> None:
    data = '{"big": 12345678901234567890.10, "a":1, "a":2, "ü": "é"}'

    run("emit", "user", "alice", "e", "-", "--url", recorder.url, stdin=data + "\n", INGEST_KEYS=KEYS)

    assert data.encode() in recorder.requests[0][3]


@pytest.mark.parametrize(
    ("options", "ack"),
    [
        (("--ack", "first"), {"want": "first"}),
        (("--ack", "all", "--timeout", "0.5"), {"want": "all", "timeout_seconds": 0.5}),
        (("--ack", "3", "--timeout", "25"), {"want": 3, "timeout_seconds": 25.0}),
    ],
)
@pytest.mark.parametrize("target", [("user", "alice"), ("users", "alice,bob"), ("room", "org:7")])
def test_acknowledgements_are_requested(
    recorder: Recorder, target: tuple[str, str], options: tuple[str, ...], ack: dict[str, Any]
) -> None:
    answer = run("emit", *target, "e", *options, "--url", recorder.url, INGEST_KEYS=KEYS)

    assert answer.returncode == 0
    assert json.loads(recorder.requests[0][3])["ack"] == ack


def test_idempotency_key_is_sent_and_signed(recorder: Recorder) -> None:
    run("emit", "user", "alice", "e", "--idempotency-key", "order 7", "--url", recorder.url, INGEST_KEYS=KEYS)

    ((method, path, headers, sent),) = recorder.requests
    assert headers["Idempotency-Key"] == "order 7"
    assert headers["X-Gateway-Signature"] == signature(method, path, headers, sent)


def test_key_and_secret_of_the_caller_have_priority_over_ingest_keys(recorder: Recorder) -> None:
    run("emit", "user", "alice", "e", INGEST_KEYS=KEYS, KEY="mine", SECRET=OTHER, URL=recorder.url)

    ((method, path, headers, sent),) = recorder.requests
    assert headers["X-Gateway-Key"] == "mine"
    assert headers["X-Gateway-Signature"] == signature(method, path, headers, sent, OTHER)


def test_default_url_is_that_of_the_settings(recorder: Recorder) -> None:
    port = recorder.url.rpartition(":")[2]

    answer = run("presence", "alice", INGEST_KEYS=KEYS, INGEST_PORT=port, INGEST_PATH_PREFIX="/push")

    ((method, path, headers, sent),) = recorder.requests
    assert (answer.returncode, path) == (0, "/presence/alice")
    # No proxy removed the prefix, and the gateway adds it before it verifies the signature.
    assert headers["X-Gateway-Signature"] == signature(method, "/push" + path, headers, sent)


def test_rejection_is_printed_and_ends_with_status_1(recorder: Recorder) -> None:
    recorder.status = 403
    recorder.body = b'{"code":"missing_scope","detail":"the key may not broadcast"}'

    answer = run("emit", "broadcast", "e", "--url", recorder.url, INGEST_KEYS=KEYS)

    assert answer.returncode == 1
    assert json.loads(answer.stdout)["code"] == "missing_scope"
    assert (
        answer.stderr
        == "Error: the gateway rejected the request: 403 missing_scope: the key may not broadcast\n"
    )


def test_response_that_is_not_json_ends_with_status_1(recorder: Recorder) -> None:
    recorder.status, recorder.body = 502, b"<html>"

    answer = run("presence", "alice", "--url", recorder.url, INGEST_KEYS=KEYS)

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "Error: the response has status 502 and is not JSON: is this a gateway?\n"


def test_unreachable_gateway_ends_with_status_3() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: the connect fails
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        answer = run("emit", "broadcast", "e", "--url", url, INGEST_KEYS=KEYS)

    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr == f"Error: no gateway answers at {url}: Connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (("emit", "user", "a", "e", "{"), {}, "the data is not JSON ("),
        (("emit", "user", "a", "e", "hello"), {}, "a string needs its own quotes: '\"hello\"'"),
        (("emit", "user", "a", "e", "NaN"), {}, "NaN is not JSON"),
        (("emit", "user", "", "e"), {}, "the user id '' is invalid: a user id is not empty"),
        (("presence", ".."), {}, "the user id '..' is invalid: a user id is neither '.' nor '..'"),
        (("emit", "user", "a", "e", "--idempotency-key", "ü"), {}, "an idempotency key is 1 to 255 printable ASCII"),
        (("emit", "user", "a"), {}, "Missing argument 'EVENT'"),
        (("emit", "user", "a", "e", "--ack", "any"), {}, "--ack is first, all or a number"),
        (("emit", "user", "a", "e", "--ack", "-1"), {}, "--ack is first, all or a number"),
        (("emit", "user", "a", "e", "--timeout", "3"), {}, "--timeout is for --ack"),
        (("emit", "user", "a", "e", "--ack", "all", "--timeout", "26"), {}, "26.0 is not in the range 0.1<=x<=25"),
        (("emit", "broadcast", "e", "--ack", "all"), {}, "No such option '--ack'"),
        (("presence", "a", "--url", "gateway:80"), {}, "the URL 'gateway:80' is not a URL that begins with"),
        (("presence", "a", "--url", "http://x/ü"), {}, "contains characters that must be percent-encoded"),
        (("presence", "a"), {"KEY": "mine"}, "GATEWAY_KEY and GATEWAY_SECRET belong together: set both or none"),
        (("presence", "a"), {"KEY": "mi ne", "SECRET": SECRET}, "GATEWAY_KEY is not 1 to 64 characters of A-Z"),
        (("presence", "a"), {"KEY": "mine", "SECRET": SECRET + "\n"}, "GATEWAY_SECRET ends with a line break"),
        (("presence", "a"), {"KEY": "mine", "SECRET": SECRET + " "}, "GATEWAY_SECRET ends with a space: remove it"),
        (("presence", "a"), {"INGEST_KEYS": ""}, "no key to sign with: set GATEWAY_KEY and GATEWAY_SECRET"),
        (("presence", "a"), {"PRT": "1"}, "GATEWAY_PRT: unknown setting; did you mean GATEWAY_PORT?"),
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_status_2_and_a_sentence(
    arguments: tuple[str, ...], settings: dict[str, str], sentence: str
) -> None:
    answer = run(*arguments, **({"INGEST_KEYS": KEYS} | settings))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("from_stdin", [True, False], ids=["stdin", "file"])
@pytest.mark.parametrize("text", ['[ {"to": "everyone"} ]\n', '{"messages": [ {"to": "everyone"} ]}'])
def test_batch_sends_the_messages_as_they_were_written(
    recorder: Recorder, tmp_path: Path, text: str, from_stdin: bool
) -> None:
    file = tmp_path / "messages.json"
    file.write_text(text, "utf-8")
    source: dict[str, Any] = {"stdin": text} if from_stdin else {}

    answer = run(
        *("batch", "-" if from_stdin else str(file), "--idempotency-key", "k", "--url", recorder.url),
        INGEST_KEYS=KEYS,
        **source,
    )

    ((method, path, headers, sent),) = recorder.requests
    assert (answer.returncode, method, path, headers["Idempotency-Key"]) == (0, "POST", "/batch", "k")
    assert sent in {b'{"messages":[ {"to": "everyone"} ]}', b'{"messages": [ {"to": "everyone"} ]}'}
    assert headers["X-Gateway-Signature"] == signature(method, path, headers, sent)


def test_batch_without_its_file_exits_with_status_2() -> None:
    answer = run("batch", "/nowhere.json", INGEST_KEYS=KEYS)

    assert answer.returncode == 2
    assert "/nowhere.json" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (("stats",), "/stats"),
        (("users",), "/users"),
        (("users", "--namespace", "/chat", "--prefix", "a b"), "/users?namespace=%2Fchat&prefix=a+b"),
        (("rooms", "--prefix", "org:"), "/rooms?prefix=org%3A"),
        (("rooms", "a/ü", "--namespace", "/"), "/rooms/a%2F%C3%BC?namespace=%2F"),
        (("connections", "--user", "42"), "/connections?user=42"),
        (
            ("connections", "--room", "chat:1", "--namespace", "/chat"),
            "/connections?room=chat%3A1&namespace=%2Fchat",
        ),
        (("connections", "~1"), "/connections/~1"),
    ],
)
def test_list_is_asked_for_as_the_options_say(
    recorder: Recorder, arguments: tuple[str, ...], target: str
) -> None:
    recorder.body = b'{"users":[],"rooms":[],"connections":[],"next":null}'

    answer = run(*arguments, "--url", recorder.url, INGEST_KEYS=KEYS)

    ((method, path, headers, sent),) = recorder.requests
    assert (answer.returncode, method, path, sent) == (0, "GET", target, b"")
    assert headers["X-Gateway-Signature"] == signature("GET", target, headers, b"")


def test_incomplete_list_is_printed_with_a_warning(recorder: Recorder) -> None:
    recorder.body = b'{"rooms":[{"name":"a","connections":1}],"next":null,"complete":false}'

    answer = run("rooms", "--url", recorder.url, INGEST_KEYS=KEYS)

    assert json.loads(answer.stdout) == {"name": "a", "connections": 1}
    assert "may be missing" in answer.stderr


def test_presence_of_several_users_is_one_request(recorder: Recorder) -> None:
    recorder.body = b'{"users":{"alice":{"online":true},"bob":{"online":false}}}'

    answer = run("presence", "alice", "bob", "alice", "--url", recorder.url, INGEST_KEYS=KEYS)

    ((method, path, _, sent),) = recorder.requests
    assert (method, path, json.loads(sent)) == ("POST", "/presence", {"users": ["alice", "bob"]})
    assert json.loads(answer.stdout) == json.loads(recorder.body)


@pytest.mark.parametrize(
    "arguments",
    [
        ("connections",),
        ("connections", "~1", "--user", "a"),
        ("connections", "~1", "--namespace", "/"),
        ("rooms", "a", "--prefix", "b"),
        ("presence", "a", ".."),
    ],
)
def test_contradicting_arguments_of_lists_are_rejected(
    recorder: Recorder, arguments: tuple[str, ...]
) -> None:
    answer = run(*arguments, "--url", recorder.url, INGEST_KEYS=KEYS)

    assert (answer.returncode, recorder.requests) == (2, [])
