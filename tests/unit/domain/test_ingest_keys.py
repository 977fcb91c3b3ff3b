"""Ingest keys and their scopes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import ingest_keys
from gateway.domain.ingest_keys import IngestKey, Scope

SECRET = "s" * 32
FEW_LETTERS = "ab*"


def key(*scopes: str) -> IngestKey:
    return IngestKey("shop", (SECRET,), tuple(Scope.parse(scope) for scope in scopes))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("emit:user", Scope("emit:user", "*")),
        ("emit:room", Scope("emit:room", "*")),
        ("emit:user:42", Scope("emit:user", "42")),
        ("emit:room:org:*", Scope("emit:room", "org:*")),
        ("broadcast", Scope("broadcast")),
        ("presence", Scope("presence")),
        ("admin", Scope("admin")),
    ],
)
def test_scope_is_an_action_and_for_emits_a_pattern(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope


@pytest.mark.parametrize(
    "text", ["", "emit", "emit:", "emit:user:", "emit:users", "Admin", "admin:x", "presence:*", "*"]
)
def test_malformed_scope_is_rejected_with_the_list_of_scopes(text: str) -> None:
    with pytest.raises(
        ValueError,
        match=re.escape(
            "emit:user[:<glob>], emit:room[:<glob>], broadcast, presence, join[:<glob>],"
            " history[:<glob>], admin"
        ),
    ):
        Scope.parse(text)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("*", "", True),
        ("*", "anything at all\n", True),
        ("org:7", "org:7", True),
        ("org:7", "org:71", False),
        ("org:7", "xorg:7", False),
        ("org:*", "org:", True),
        ("org:*", "org:7:8", True),
        ("org:*", "ORG:7", False),
        ("*:7", "org:7", True),
        ("*:7", "org:77", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("a?", "ab", False),
    ],
)
def test_star_matches_any_text_and_every_other_character_itself(
    pattern: str, name: str, covered: bool
) -> None:
    assert Scope("emit:room", pattern).matches(name) is covered


@given(pattern=st.text(FEW_LETTERS, max_size=8), name=st.text("ab", max_size=12))
def test_pattern_matches_what_its_regular_expression_matches(pattern: str, name: str) -> None:
    expression = ".*".join(re.escape(literal) for literal in pattern.split("*"))

    assert Scope("emit:room", pattern).matches(name) == (re.fullmatch(expression, name) is not None)


@pytest.mark.timeout(60)  # quadratic work would take hours
def test_pattern_is_matched_in_linear_time() -> None:
    assert not Scope("emit:room", "*a" * 100 + "*b").matches("a" * 200)


def test_key_has_every_scope_by_default() -> None:
    unrestricted = IngestKey("shop", (SECRET,))

    assert all(unrestricted.has_scope(action) for action in ingest_keys.ACTIONS)
    assert unrestricted.can_emit_to("user:42")
    assert unrestricted.can_emit_to("org:7")


def test_key_may_do_what_any_of_its_scopes_allows() -> None:
    reader = key("presence", "emit:user:42")

    assert reader.has_scope("presence")
    assert reader.has_scope("broadcast", "emit:user")
    assert not reader.has_scope("broadcast", "admin")
    assert not key().has_scope(*ingest_keys.ACTIONS)


def test_rooms_of_users_need_the_scope_for_users() -> None:
    assert not key("emit:room").can_emit_to("user:42")
    assert not key("emit:room:*").can_emit_to("user:42")
    assert not key("emit:room:user:42").can_emit_to("user:42")
    assert key("emit:user").can_emit_to("user:42")
    assert not key("emit:user").can_emit_to("org:7")


def test_room_of_a_sid_needs_the_scope_for_every_user() -> None:
    sid = "~Us0vkvkHVoWsjT_pvFDI"

    assert not key("emit:room").can_emit_to(sid)
    assert not key("emit:room:~*").can_emit_to(sid)
    assert not key("emit:user:4*").can_emit_to(sid)
    assert not key("emit:user:~*").can_emit_to(sid)
    assert key("emit:user").can_emit_to(sid)
    assert key("emit:user:*").can_emit_to(sid)


def test_patterns_for_users_match_the_id_and_those_for_rooms_the_whole_name() -> None:
    narrow = key("emit:user:4*", "emit:room:org:7")

    assert narrow.can_emit_to("user:42")
    assert not narrow.can_emit_to("user:24")
    assert narrow.can_emit_to("org:7")
    assert not narrow.can_emit_to("org:8")


def test_repr_of_a_key_has_no_secrets() -> None:
    assert SECRET not in repr(IngestKey("shop", (SECRET,)))
    assert SECRET not in f"{IngestKey('shop', (SECRET,))}"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("a", True),
        ("A.b_c-9", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_id_of_a_key_has_64_characters_of_a_header_at_most(text: str, fits: bool) -> None:
    assert (ingest_keys.KEY_ID.fullmatch(text) is not None) is fits
