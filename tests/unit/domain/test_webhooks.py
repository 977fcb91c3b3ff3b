"""What answers of a webhook may do."""

from __future__ import annotations

import pytest

from gateway.domain.ingest_keys import Scope
from gateway.domain.webhooks import Webhook, parse_may


def may(*scopes: str) -> Webhook:
    return Webhook(id="app", url="https://app.example.com/", may=tuple(parse_may(scope) for scope in scopes))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("emit:user", Scope("emit:user")),
        ("emit:room:chat:*", Scope("emit:room", "chat:*")),
        ("join:match:*", Scope("join", "match:*")),
        ("join", Scope("join")),
        ("broadcast", Scope("broadcast")),
        ("disconnect", Scope("disconnect")),
    ],
)
def test_scope_is_an_action_and_a_glob(text: str, scope: Scope) -> None:
    assert parse_may(text) == scope


@pytest.mark.parametrize(
    "text", ["", "admin", "presence", "emit", "emit:room:", "broadcast:*", "disconnect:a"]
)
def test_other_scope_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is not something that answers may do"):
        parse_may(text)


@pytest.mark.parametrize(
    ("scopes", "scope", "target", "allowed"),
    [
        ((), "emit:room", "lobby", False),
        (("emit:room",), "emit:room", "lobby", True),
        (("emit:room",), "emit:room", "user:42", False),
        (("emit:user",), "emit:room", "user:42", True),
        (("emit:user:4*",), "emit:user", "42", True),
        (("emit:user:4*",), "emit:user", "52", False),
        (("emit:room:chat:*",), "emit:room", "chat:1", True),
        (("emit:room:chat:*",), "emit:room", "lobby", False),
        (("emit:room",), "emit:room", "~Us0vkvkHVoWsjT_pvFDI", False),
        (("emit:room:~*",), "emit:room", "~Us0vkvkHVoWsjT_pvFDI", False),
        (("emit:user:4*",), "emit:room", "~Us0vkvkHVoWsjT_pvFDI", False),
        (("emit:user",), "emit:room", "~Us0vkvkHVoWsjT_pvFDI", True),
        (("emit:room",), "broadcast", "", False),
        (("broadcast",), "broadcast", "", True),
        (("disconnect",), "disconnect", "", True),
        (("join",), "join", "lobby", True),
        (("join",), "join", "org:7", False),
        (("join:*",), "join", "role:admin", False),
        (("join:org:*",), "join", "org:7", True),
        (("join:user:*",), "join", "user:42", False),
        (("join:~*",), "join", "~Us0vkvkHVoWsjT_pvFDI", False),
    ],
)
def test_scope_allows_what_it_names(scopes: tuple[str, ...], scope: str, target: str, allowed: bool) -> None:
    assert may(*scopes).allows(scope, target) is allowed


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ((), False),
        (("emit:room", "emit:user", "broadcast", "disconnect"), False),
        (("join",), True),
        (("broadcast", "join:match:*"), True),
    ],
)
def test_rooms_may_be_changed_with_a_scope_for_joins(scopes: tuple[str, ...], expected: bool) -> None:
    assert may(*scopes).allows("join", None) is expected
