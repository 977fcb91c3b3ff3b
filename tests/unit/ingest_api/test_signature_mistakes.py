"""Bad signatures: the mistake is found, shown to developers alone, and no secret is in any answer or log line."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.ingest_keys import IngestKey
from ingest_api.signature_mistakes import HELP_PAGE, SignedRequest, find_mistake
from tests.support.paths import ROOT
from tests.unit.ingest_api.harness import SHOP, RestApiServer, run_rest_api

SECRET = base64.b64encode(b"thirty-two bytes of a secret....").decode()
BODY = b'{"event": "e", "data": "\xc3\xbc"}\n'
REQUEST = SignedRequest(
    "shop",
    "POST",
    b"/push/emit/user/a@b%2Fc?x=1",
    "1764500000",
    "a-nonce-of-tests",
    None,
    BODY,
    prefix="/push",
)
KEYED = SignedRequest("shop", "POST", b"/broadcast", "1764500000", "a-nonce-of-tests", "order-1", BODY)

Lines = list[str | None]


def signature(lines: Lines, *, secret: bytes = SECRET.encode(), separator: str = "\n", end: str = "") -> str:
    text = separator.join(line for line in lines if line is not None) + end
    return "v1=" + hmac.digest(secret, text.encode(), "sha256").hex()


def lines_of(request: SignedRequest, *, body: bytes | None = None, **changed: str | None) -> Lines:
    """Return the lines that a sender signs with these mistakes: by name, None for a line that is left out."""
    lines: dict[str, str | None] = {
        "version": "v1",
        "key": request.key_id,
        "method": request.method,
        "target": request.target.decode(),
        "timestamp": request.timestamp,
        "nonce": request.nonce,
        "idempotency": request.idempotency_key or "",
        "digest": hashlib.sha256(request.body if body is None else body).hexdigest(),
    }
    return list((lines | changed).values())


COMPACT = json.dumps(json.loads(BODY), separators=(",", ":"), ensure_ascii=False).encode()
ESCAPED = json.dumps(json.loads(BODY)).encode()
DIGEST = hashlib.sha256(BODY)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (lines_of(REQUEST, target="/emit/user/a@b%2Fc?x=1"), "without INGEST_PATH_PREFIX"),
        (lines_of(REQUEST, target="/push/emit/user/a@b%2Fc"), "without its query"),
        (lines_of(REQUEST, target="/push/emit/user/a@b%2Fc?x=1?"), "question mark at its end"),
        (lines_of(REQUEST, target="/push/emit/user/a@b/c?x=1"), "without percent-encoding"),
        (lines_of(REQUEST, target="/push/emit/user/a%40b%2Fc?x=1"), "which a proxy has decoded"),
        (lines_of(REQUEST, target="/push/emit/user/a@b%2fc?x=1"), "lower-case percent-encoding"),
        (lines_of(REQUEST, target="push/emit/user/a@b%2Fc?x=1"), "without its first slash"),
        (lines_of(REQUEST, target=""), "is empty"),
        (lines_of(REQUEST, body=BODY.rstrip()), "without the line feed at its end"),
        (lines_of(REQUEST, body=BODY + b"\n"), "with a line feed at its end"),
        (lines_of(REQUEST, body=b""), "an empty body was signed"),
        (lines_of(REQUEST, body=COMPACT), "serialised a second time, without spaces"),
        (lines_of(REQUEST, body=ESCAPED), "serialised a second time, with spaces, with \\u escapes"),
        (lines_of(REQUEST, digest=DIGEST.hexdigest().upper()), "upper-case hex"),
        (lines_of(REQUEST, digest=base64.b64encode(DIGEST.digest()).decode()), "base64 instead of hex"),
        (lines_of(REQUEST, digest=BODY.decode()), "the body instead of its hash"),
        (lines_of(REQUEST, digest=""), "line 8 is empty"),
        (lines_of(REQUEST, method="post"), "lower case"),
        (lines_of(REQUEST, timestamp="1764500000000"), "milliseconds"),
        (lines_of(REQUEST, idempotency=None), "line 7 is missing: without an Idempotency-Key it is empty"),
        (lines_of(KEYED, idempotency=""), "sent and not signed"),
        (lines_of(KEYED, idempotency=None), "line 7, the Idempotency-Key, is missing"),
        (lines_of(REQUEST, version=None), "line 1, the letters v1, is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_mistake_in_a_line_is_found(lines: Lines, words: str) -> None:
    request = KEYED if "without an" not in words and lines[3] == "/broadcast" else REQUEST

    assert words in (find_mistake(signature(lines), [SECRET], request) or "none")


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (lambda lines: signature(lines, end="\n"), "ends in a line feed"),
        (lambda lines: signature(lines, separator="\r\n"), "CR LF"),
        (lambda lines: signature(lines, separator="\\n"), "a backslash and the letter n"),
        (lambda lines: signature(lines, separator=""), "without line feeds"),
        (lambda lines: signature(lines, secret=base64.b64decode(SECRET)), "decoded from"),
        (lambda lines: signature(lines, secret=SECRET.encode() + b"\n"), "with a line feed at its end"),
        (lambda lines: signature(lines, secret=f'"{SECRET}"'.encode()), "in quotation marks"),
        (lambda lines: signature(lines, secret=hashlib.sha256(SECRET.encode()).digest()), "as its SHA-256"),
        (
            lambda lines: "v1=" + hmac.digest("\n".join(lines).encode(), SECRET.encode(), "sha256").hex(),
            "exchanged",
        ),
        (
            lambda lines: "v1=" + hashlib.sha256((SECRET + "\n".join(lines)).encode()).hexdigest(),
            "instead of an HMAC",
        ),
        (lambda lines: signature([*lines[:6], None, lines[7]], end="\n"), "line 7 is missing"),
        (lambda lines: signature(lines, separator="\r\n", end="\n"), "none"),
    ],
)
def test_mistake_in_the_form_or_the_secret_is_found(sign: Callable[[Lines], str], words: str) -> None:
    assert words in (find_mistake(sign(lines_of(REQUEST)), ["another secret", SECRET], REQUEST) or "none")


def test_two_mistakes_at_once_are_found() -> None:
    lines = lines_of(REQUEST, target="/emit/user/a@b%2Fc?x=1", idempotency=None)

    found = find_mistake(signature(lines), [SECRET], REQUEST) or ""

    assert "without INGEST_PATH_PREFIX" in found
    assert ", and line 7 is missing" in found


def test_secret_in_hex_that_was_decoded_is_found() -> None:
    secret = "0123456789abcdef" * 4

    found = find_mistake(signature(lines_of(REQUEST), secret=bytes.fromhex(secret)), [secret], REQUEST)

    assert "decoded from hex" in (found or "")


def test_target_that_a_proxy_reports_in_a_header_is_tried() -> None:
    request = SignedRequest(
        "shop", "GET", b"/presence/42", "1764500000", "a-nonce-of-tests", None, b"",
        host="push.example.com", others=(("X-Forwarded-Prefix", "/api"), ("X-Original-URI", "/a/presence/42")),
    )  # fmt: skip

    for target, words in (
        ("/api/presence/42", "X-Forwarded-Prefix"),
        ("/a/presence/42", "X-Original-URI"),
        ("https://push.example.com/presence/42", "the whole URL"),
    ):
        assert words in (
            find_mistake(signature(lines_of(request, target=target)), [SECRET], request) or "none"
        )


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"[" * 5000, b'"\\ud800"'])
def test_signature_of_another_secret_is_explained_by_nothing(body: bytes) -> None:
    request = SignedRequest("shop", "POST", b"/%ff/\xff?", "1764500000", "a-nonce-of-tests", "x", body)

    assert find_mistake("v1=" + "0" * 64, [SECRET, "ü" * 20], request) is None


def test_no_sentence_contains_the_secret() -> None:
    for secret in (SECRET.encode() + b"\n", base64.b64decode(SECRET)):
        assert SECRET not in (
            find_mistake(signature(lines_of(REQUEST), secret=secret), [SECRET], REQUEST) or ""
        )


# --- the REST API ---


async def push(server: RestApiServer, **mistakes: Any) -> dict[str, Any]:
    body = b'{"event":"e"}'
    response = await server.post("/broadcast", body, **mistakes)
    assert response.problem == (401, "bad_signature")
    assert SHOP.secrets[0] not in response.body.decode()
    problem: dict[str, Any] = response.json
    return problem


WRONG: dict[str, Any] = {"secret": SHOP.secrets[0] + "\n"}


async def test_response_in_production_names_the_page_and_nothing_else(server: RestApiServer) -> None:
    problem = await push(server, **WRONG)

    assert problem["help"] == HELP_PAGE
    assert (ROOT / HELP_PAGE).is_file()
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id", "help"}


async def test_response_for_developers_has_the_verified_text_and_the_mistake() -> None:
    async with run_rest_api(explains_signatures=True) as server:
        problem = await push(server, **WRONG)
        unknown = await push(server, secret="another secret, long enough as well, but another")

    lines = problem["verified_text"].split("\n")
    assert lines[:4] == ["v1", SHOP.id, "POST", "/broadcast"]
    assert lines[6:] == ["", hashlib.sha256(b'{"event":"e"}').hexdigest()]
    assert problem["mistake"] == ("the secret was used with a line feed at its end, and not as it is written")
    assert (unknown["mistake"], unknown["help"]) == (None, HELP_PAGE)


async def test_log_at_debug_has_the_same_and_the_response_has_not(server: RestApiServer) -> None:
    with capture_logs() as lines:
        problem = await push(server, **WRONG)

    [line] = [line for line in lines if line["event"] == "request.bad_signature"]
    assert line["log_level"] == "debug"
    assert "with a line feed at its end" in line["mistake"]
    assert line["verified_text"].startswith(f"v1\n{SHOP.id}\nPOST\n/broadcast\n")
    assert "mistake" not in problem
    assert SHOP.secrets[0] not in str(lines)


async def test_search_for_the_log_runs_once_a_second_at_most(server: RestApiServer) -> None:
    with capture_logs() as lines:
        for seconds in (0, 0.5, 0.6):
            server.clock.advance(seconds)
            await push(server, **WRONG)

    found = [line["mistake"] is not None for line in lines if line["event"] == "request.bad_signature"]
    assert found == [True, False, True]


async def test_correct_signature_of_a_key_with_two_secrets_is_accepted() -> None:
    key = IngestKey("shop", ("an old secret, long enough for a test of it", SHOP.secrets[0]))
    async with run_rest_api(keys=(key,), explains_signatures=True) as server:
        for secret in key.secrets:
            assert (await server.post("/broadcast", b'{"event":"e"}', key=key, secret=secret)).status == 200
