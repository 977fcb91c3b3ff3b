"""The rules for names."""

from __future__ import annotations

import pytest

from gateway.domain import names
from gateway.domain.errors import InvalidName

CHECKS = [names.check_user, names.check_room]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "name", ["42", "a b", "ü/ñ", "👋", "user:42", "%2F", "...", "a\u00a0b", "\u2028", "é", "क\u093c"]
)
def test_user_or_room_may_have_almost_any_name(check, name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "not empty"),
        (".", "neither"),
        ("..", "neither"),
        ("a\x00", "control"),
        ("\na", "control"),
        ("a\x1fb", "control"),
        ("a\x7f", "control"),
        ("a\x80", "control"),
        ("a\x9f", "control"),
        ("a\ud800", "surrogates"),
        ("\udfffa", "surrogates"),
        ("e\u0301", "NFC"),
        ("u\u0308ser:é", "NFC"),
        ("\u212bngstr", "NFC"),
        ("\u1112\u1161\u11ab", "NFC"),
    ],
)
def test_user_or_room_that_breaks_a_rule_is_rejected_with_the_rule(check, name: str, rule: str) -> None:
    with pytest.raises(InvalidName, match=rule):
        check(name)


@pytest.mark.parametrize(
    ("check", "longest"),
    [(names.check_user, 255), (names.check_room, 300), (names.check_event, 128)],
)
def test_name_has_a_maximum_length_in_characters(check, longest: int) -> None:
    assert check("ü" * longest) == "ü" * longest
    with pytest.raises(InvalidName, match=f"at most {longest}"):
        check("ü" * (longest + 1))


@pytest.mark.parametrize("namespace", ["/", "/chat", "/a/b", "/ü"])
def test_namespace_starts_with_a_slash(namespace: str) -> None:
    assert names.check_namespace(namespace) == namespace


@pytest.mark.parametrize(
    ("namespace", "rule"),
    [("", "empty"), ("chat", "slash"), ("/a,b", "comma"), ("/a?b", "question mark"), ("/\x00", "control")],
)
def test_namespace_that_would_break_a_packet_is_rejected(namespace: str, rule: str) -> None:
    with pytest.raises(InvalidName, match=rule):
        names.check_namespace(namespace)


@pytest.mark.parametrize("event", ["notification:new", "a", "Connect", "disconnected", "message", "ü b"])
def test_event_may_have_almost_any_name(event: str) -> None:
    assert names.check_event(event) == event


@pytest.mark.parametrize(
    "event", ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
)
def test_event_reserved_by_socket_io_is_rejected(event: str) -> None:
    with pytest.raises(InvalidName, match="reserved"):
        names.check_event(event)


@pytest.mark.parametrize("event", ["authenticated", "auth:expiring", "auth:expired", "recovery:failed"])
def test_event_of_the_gateway_is_reserved_for_it_and_may_be_sent_by_clients(event: str) -> None:
    with pytest.raises(InvalidName, match="reserved by the gateway"):
        names.check_event(event)

    assert names.check_client_event(event) == event


def test_applications_may_send_errors_of_their_own() -> None:
    assert names.check_event("error") == "error"
    assert names.check_event("exception") == "exception"


def test_event_without_a_name_is_rejected() -> None:
    with pytest.raises(InvalidName, match="not empty"):
        names.check_event("")


def test_user_room_is_named_after_the_user() -> None:
    assert names.user_room("42") == "user:42"
