"""Templates: what references of a client event become."""

from __future__ import annotations

import pytest

from gateway.domain.identity import Identity
from gateway.domain.templates import (
    MISSING,
    ArrayTemplate,
    EventContext,
    Literal,
    ObjectTemplate,
    Reference,
    Template,
)

CONTEXT = EventContext(
    arguments=[{"room": "lobby", "list": [1, [2]]}, None],
    sid="~sid",
    identity=Identity("42", frozenset(), subject=42),
    time=1795262400.0,
    id="m-1",
    data={"name": "Ada"},
    error={"code": "busy", "message": "try again"},
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (Reference("0", ("room",)), "lobby"),
        (Reference("0", ("list", "1", "0")), 2),
        (Reference("1"), None),
        (Reference("sid"), "~sid"),
        (Reference("user"), "42"),
        (Reference("sub"), 42),
        (Reference("email"), None),
        (Reference("now"), "2026-11-21T12:00:00.000Z"),
        (Reference("id"), "m-1"),
        (Reference("data", ("name",)), "Ada"),
        (Reference("error", ("code",)), "busy"),
        (Literal({"a": [1]}), {"a": [1]}),
        (ObjectTemplate((("room", Reference("0", ("room",))), ("gone", Reference("2")))), {"room": "lobby"}),
        (ArrayTemplate((Reference("2"), Literal("x"))), [None, "x"]),
    ],
)
def test_template_renders(template: Template, expected: object) -> None:
    assert template.render(CONTEXT) == expected


@pytest.mark.parametrize(
    "reference",
    [
        Reference("2"),
        Reference("15"),
        Reference("0", ("__proto__",)),
        Reference("0", ("room", "length")),
        Reference("0", ("list", "2")),
        Reference("0", ("list", "-1")),
        Reference("0", ("list", "999999999999")),
        Reference("1", ("a",)),
        Reference("data", ("unknown",)),
    ],
)
def test_reference_to_an_absent_member_is_missing(reference: Reference) -> None:
    assert reference.render(CONTEXT) is MISSING
