"""Which pages may connect."""

from __future__ import annotations

import pytest

from gateway.transport.cors import Origins

PAGE = "https://app.example"


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ([PAGE], PAGE, True),
        ([PAGE], "https://APP.example", True),
        ([PAGE], "https://evil.example", False),
        ([PAGE], "https://app.example.evil.example", False),
        ([PAGE], "http://app.example", False),
        ([PAGE], "null", False),
        ([PAGE], "", False),
        ([PAGE], None, True),
        ([], PAGE, False),
        ([], None, True),
        (["*"], "https://anything.example", True),
        (["*"], "null", True),
    ],
)
def test_origin_is_allowed_if_it_is_listed_or_absent(
    allowed: list[str], origin: str | None, expected: bool
) -> None:
    assert Origins(allowed).allows(origin) is expected


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["https://*.preview.example.com"], "https://pr-7.preview.example.com", True),
        (["https://*.preview.example.com"], "https://a.b.preview.example.com", False),
        (["https://*.preview.example.com"], "https://preview.example.com", False),
        (["https://*.preview.example.com"], "https://*.preview.example.com", False),
        ([PAGE], "wss://app.example:443/", True),
        (["file://"], "file://", True),
        (["file://"], "null", False),
        (["null"], "null", True),
        (["null"], "file://", False),
        (["null"], "", False),
    ],
)
def test_origin_is_allowed_in_every_spelling_and_by_a_wildcard(
    allowed: list[str], origin: str, expected: bool
) -> None:
    assert Origins(allowed).allows(origin) is expected


def test_own_host_is_allowed_only_if_that_is_on() -> None:
    assert Origins([], same_host=True).allows("wss://push.example", host="push.example")
    assert not Origins([]).allows("wss://push.example", host="push.example")
    assert not Origins([], same_host=True).allows("https://evil.example", host="push.example")
    assert not Origins([], same_host=True).allows("null", host="")


def test_headers_name_the_origin_itself_so_that_credentials_may_be_sent() -> None:
    assert Origins(["*"]).headers(PAGE) == {
        "Access-Control-Allow-Origin": PAGE,
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }


def test_request_without_an_origin_gets_no_cors_headers() -> None:
    assert Origins(["*"]).headers(None) == {}
    assert Origins(["*"]).preflight_headers(None, "X-Anything") == {}


def test_preflight_allows_the_methods_of_engine_io_and_the_requested_headers() -> None:
    headers = Origins([PAGE]).preflight_headers(PAGE, "Authorization, X-Trace")

    assert headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert headers["Access-Control-Allow-Headers"] == "Authorization, X-Trace"
    assert "Access-Control-Allow-Headers" not in Origins([PAGE]).preflight_headers(PAGE, None)
