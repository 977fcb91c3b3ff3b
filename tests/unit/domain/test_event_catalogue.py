"""The values of the event catalogue: globs of rooms, and which entry and rule decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    Allow,
    AllowKind,
    ClientEvent,
    EventCatalogue,
    Glob,
    NamespaceEvents,
    RoomRule,
)


@pytest.mark.parametrize(
    ("pattern", "room", "expected"),
    [
        ("*", "lobby", True),
        ("*", "user:42", False),
        ("*", "org:7", False),
        ("*", "tenant:3", False),
        ("*", "role:admin", False),
        ("*", "~Us0vAAAAAAAAAAAAAAAA", False),
        ("u*", "user:42", False),
        ("us*", "usual", True),
        ("user*", "user:42", False),
        ("user:*", "user:42", True),
        ("~*", "~Us0vAAAAAAAAAAAAAAAA", True),
        ("chat:*:news", "chat:7:news", True),
        ("chat:*:news", "chat:7", False),
        ("lobby", "lobby", True),
        ("lobby", "Lobby", False),
        ("room[1]*", "room[1]a", True),
        ("room[1]*", "room1a", False),
        ("a?*", "ab", False),
        ("a*", "a\nb", True),
    ],
)
def test_glob_matches_names(pattern: str, room: str, expected: bool) -> None:
    assert Glob(pattern).matches(room) is expected


@given(pattern=st.text(max_size=12), prefix=st.sampled_from(RESERVED_PREFIXES), rest=st.text(max_size=8))
def test_glob_without_the_reserved_prefix_never_matches_such_a_room(
    pattern: str, prefix: str, rest: str
) -> None:
    if not pattern.startswith(prefix):
        assert not Glob(pattern).matches(prefix + rest)


def test_exact_entry_wins_and_then_the_longest_pattern() -> None:
    exact, long, short = (ClientEvent(name=name) for name in ("chat:say", "chat:*", "*"))
    events = NamespaceEvents(client_events={"chat:say": exact}, patterns=(long, short))

    assert events.client_event("chat:say") is exact
    assert events.client_event("chat:leave") is long
    assert events.client_event("other") is short
    assert NamespaceEvents(client_events={"chat:say": exact}).client_event("other") is None


def test_first_rule_that_matches_decides() -> None:
    narrow, wide = RoomRule(Glob("chat:*")), RoomRule(Glob("*"))
    events = NamespaceEvents(rooms=(narrow, wide))

    assert events.rule_for("chat:7") is narrow
    assert events.rule_for("lobby") is wide
    assert events.rule_for("user:42") is None


def test_catalogue_names_the_webhooks_that_it_uses() -> None:
    events = NamespaceEvents(
        rooms=(RoomRule(Glob("*"), join=Allow(AllowKind.CALL, webhook="rooms")),),
        client_events={"a": ClientEvent(name="a", call="app")},
        patterns=(ClientEvent(name="*", call="rest"), ClientEvent(name="b*")),
    )

    assert EventCatalogue({"/": events}).webhooks() == {"rooms", "app", "rest"}
