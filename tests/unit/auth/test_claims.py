"""The claims of a signed token: the identity, or the code of the rejection."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from gateway.metrics import MetricFactory
from tests.support.clock import FakeClock, FakeSchedule
from tests.support.metrics import counted
from tests.support.waiter import await_until
from tests.unit.auth.issuer import NOW, claims, raw_token, token, verifier

HEADER = b'{"alg":"HS256","typ":"JWT"}'


async def rejection_of(content: dict[str, object], **options: object) -> TokenRejected:
    with pytest.raises(TokenRejected) as rejection:
        await verifier(**options).verify(token(content))
    return rejection.value


async def accepted(text: str, **options: object) -> str:
    """Return the user of an accepted token."""
    identity = await verifier(**options).verify(text)
    return identity.user


async def test_token_becomes_the_identity_in_its_claims():
    content = claims(
        email="alice@example.com", orgId="7", tenant_id=3, role=["admin", "editor"], rooms=["news"]
    )

    identity = await verifier().verify(token(content))

    assert identity == Identity(
        user="alice",
        rooms=frozenset({"user:alice", "org:7", "tenant:3", "role:admin", "role:editor", "news"}),
        expires_at=NOW + 3600,
        issued_at=NOW,
        email="alice@example.com",
    )


@pytest.mark.parametrize(
    ("sub", "user"),
    [("42", "42"), (42, "42"), (0, "0"), (-7, "-7"), ("a/b ü", "a/b ü"), ("x" * 255, "x" * 255)],
)
async def test_subject_is_a_string_or_an_integer(sub: object, user: str):
    identity = await verifier().verify(raw_token(HEADER, json.dumps(claims(sub=sub)).encode()))

    assert identity.user == user
    assert identity.rooms == {f"user:{user}"}
    assert identity.subject == (sub if isinstance(sub, int) else None)


@pytest.mark.parametrize(
    "sub",
    ["", True, False, 4.2, [], {}, ["alice"], "x" * 256, "e\u0301", ".", "..", "a\nb", "\ud800", 10**256],
)
async def test_any_other_subject_is_rejected(sub: object):
    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(raw_token(HEADER, json.dumps(claims(sub=sub)).encode()))

    assert rejection.value.code == "token_invalid"
    assert "sub" in rejection.value.message


@pytest.mark.parametrize("name", ["sub", "exp"])
@pytest.mark.parametrize("form", ["absent", "null"])
async def test_token_without_sub_or_exp_is_rejected(name: str, form: str):
    content = claims(**{name: None})
    if form == "null":
        content[name] = None

    rejection = await rejection_of(content)

    assert rejection.code == "token_claim_missing"
    assert name in rejection.message


@pytest.mark.parametrize("content", [{"rooms": ["news", "~eavesdrop"]}, {"tilde": "x"}])
async def test_token_that_grants_a_room_in_the_form_of_a_sid_is_rejected(content: dict[str, object]):
    rejection = await rejection_of(claims(**content), room_claims={"tilde": "~", "rooms": ""})

    assert rejection.code == "token_invalid"
    assert "~" in rejection.message


async def test_token_without_exp_is_accepted_if_exp_is_not_required():
    identity = await verifier(require_exp=False).verify(token(claims(exp=None, iat=None)))

    assert identity.expires_at is None
    assert identity.issued_at is None


async def test_token_expires_at_exp():
    assert (await rejection_of(claims(exp=int(NOW)))).code == "token_expired"
    assert (await verifier().verify(token(claims(exp=NOW + 0.5)))).expires_at == NOW + 0.5


async def test_leeway_extends_the_expiry():
    late = token(claims(exp=int(NOW) - 9))

    identity = await verifier(leeway_seconds=10).verify(late)

    assert identity.expires_at == NOW - 9
    assert (await rejection_of(claims(exp=int(NOW) - 10), leeway_seconds=10)).code == "token_expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
async def test_clock_of_the_issuer_may_be_five_seconds_ahead(name: str):
    assert await accepted(token(claims(**{name: NOW + 5}))) == "alice"
    assert await accepted(token(claims(**{name: NOW + 5})), leeway_seconds=1) == "alice"
    assert await accepted(token(claims(**{name: NOW + 30})), leeway_seconds=30) == "alice"
    assert (await rejection_of(claims(exp=NOW))).code == "token_expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
async def test_token_that_is_active_within_seconds_is_held_until_then(name: str):
    schedule = FakeSchedule(FakeClock(NOW))
    verifying = asyncio.create_task(
        verifier(schedule=schedule).verify(token(claims(**{name: NOW + 10, "exp": NOW + 60})))
    )
    await await_until(lambda: len(schedule) == 1, "the token is held", pause_seconds=0)

    schedule.advance(4.9)
    await asyncio.sleep(0)
    assert not verifying.done()
    schedule.advance(0.3)

    assert (await verifying).user == "alice"
    assert len(schedule) == 0


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(("ahead", "retry_after"), [(10.1, 6), (65, 60), (100_000, 3600)])
async def test_token_that_is_active_later_is_rejected_with_the_time_to_retry(
    name: str, ahead: float, retry_after: int
):
    rejection = await rejection_of(claims(**{name: NOW + ahead, "exp": NOW + 200_000}))

    assert (rejection.code, rejection.retry_after_seconds) == ("token_not_active", retry_after)
    assert name in rejection.message


async def test_token_that_is_invalid_whatever_the_time_is_not_held():
    content = claims(nbf=NOW + 7, aud="other")

    assert (await rejection_of(content, audience=("app",))).code == "token_audience_invalid"
    assert (await rejection_of(claims(nbf=NOW + 7, sub=4.2))).code == "token_invalid"
    assert (await rejection_of(claims(exp=NOW - 1))).retry_after_seconds is None


async def test_token_that_expires_while_it_is_held_is_rejected():
    schedule = FakeSchedule(FakeClock(NOW))
    verifying = asyncio.create_task(
        verifier(schedule=schedule).verify(token(claims(nbf=NOW + 9, exp=NOW + 3)))
    )
    await await_until(lambda: len(schedule) == 1, "the token is held", pause_seconds=0)
    schedule.advance(5)

    with pytest.raises(TokenRejected) as rejection:
        await verifying
    assert rejection.value.code == "token_expired"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ['"1800003600"', "true", "[]", "{}", "-1", "1e400", "1" + "0" * 400, "1800003600000"]
)
async def test_invalid_date_is_rejected(name: str, value: str):
    content = json.dumps(claims(**{name: "here"})).replace('"here"', value)

    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(raw_token(HEADER, content.encode()))

    assert rejection.value.code == "token_invalid"
    assert name in rejection.value.message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1" * 5000])
async def test_number_that_is_not_json_is_malformed(value: str):
    content = json.dumps(claims(exp="here")).replace('"here"', value)

    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(raw_token(HEADER, content.encode()))

    assert rejection.value.code == "token_malformed"


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"a":' * 1000]
)
async def test_payload_that_is_not_an_object_is_malformed(payload: bytes):
    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(raw_token(HEADER, payload))

    assert rejection.value.code == "token_malformed"


async def test_audience_is_checked_when_set():
    options = {"audience": ("app", "admin")}

    assert await accepted(token(claims(aud="app")), **options) == "alice"
    assert await accepted(token(claims(aud=["other", "admin"])), **options) == "alice"
    assert (await rejection_of(claims(aud="other"), **options)).code == "token_audience_invalid"
    assert (await rejection_of(claims(aud=[]), **options)).code == "token_audience_invalid"
    assert (await rejection_of(claims(aud=[["app"], {}, 1]), **options)).code == "token_audience_invalid"
    assert (await rejection_of(claims(aud=5), **options)).code == "token_audience_invalid"
    assert (await rejection_of(claims(), **options)).code == "token_claim_missing"
    assert await accepted(token(claims(aud="anything"))) == "alice"


@pytest.mark.parametrize("issuer", [("https://id.example",), ("https://id.example", "https://old.example")])
async def test_issuer_is_checked_when_set(issuer: object):
    assert await accepted(token(claims(iss="https://id.example")), issuer=issuer) == "alice"
    assert (
        await rejection_of(claims(iss="https://id.example.evil"), issuer=issuer)
    ).code == "token_issuer_invalid"
    assert (await rejection_of(claims(iss="https://id"), issuer=issuer)).code == "token_issuer_invalid"
    assert (await rejection_of(claims(), issuer=issuer)).code == "token_claim_missing"
    assert await accepted(token(claims(iss="anything"))) == "alice"


async def test_issuer_that_is_not_a_string_is_rejected():
    with pytest.raises(TokenRejected) as rejection:
        await verifier(issuer=("x",)).verify(raw_token(HEADER, json.dumps(claims(iss=["x"])).encode()))

    assert rejection.value.code == "token_issuer_invalid"


async def test_token_with_a_longer_lifetime_than_revocations_is_rejected():
    day = 86_400.0

    assert await accepted(token(claims(exp=NOW + day)), max_lifetime_seconds=day) == "alice"
    rejection = await rejection_of(claims(exp=NOW + day + 1), max_lifetime_seconds=day)
    assert rejection.code == "token_invalid"
    assert "86400 s" in rejection.message
    # Most of the lifetime is over. The whole lifetime counts if the token has iat.
    assert (
        await rejection_of(claims(iat=NOW - day, exp=NOW + 1), max_lifetime_seconds=day)
    ).code == "token_invalid"
    assert await accepted(token(claims(iat=None, exp=NOW + day)), max_lifetime_seconds=day) == "alice"


@pytest.mark.parametrize(
    ("value", "type_", "reason"),
    [
        (True, "boolean", "it is neither a string nor an integer"),
        (7.0, "number", "it is neither a string nor an integer"),
        ({"id": "s3cret"}, "object", "it is neither a string nor an integer"),
        ([["7"]], "list", "it is neither a string nor an integer"),
        ([None], "null", "it is neither a string nor an integer"),
        ("", "string", "it is empty"),
        ([""], "string", "it is empty"),
        ("a\nb", "string", "a room name holds no control characters"),
        ("x" * 300, "string", "a room name has at most 300 characters"),
        (10**300, "integer", "a room name has at most 300 characters"),
        (
            "Mu\u0308ller",
            "string",
            "a room name is in Unicode form NFC (é is one character, not e and an accent)",
        ),
    ],
)
async def test_claim_of_another_shape_grants_no_room_is_logged_and_counted_and_rejects_no_token(
    value: object, type_: str, reason: str
):
    schedule, metrics = FakeSchedule(FakeClock(NOW)), MetricFactory()
    jwt_verifier = verifier(schedule=schedule, metrics=metrics)
    values = [*value, "8"] if isinstance(value, list) else value
    text = raw_token(HEADER, json.dumps(claims(orgId=values, role="admin")).encode())

    with structlog.testing.capture_logs() as logs:
        identities = [await jwt_verifier.verify(text) for _ in range(3)]
        schedule.advance(60)
        await jwt_verifier.verify(text)

    others = {"org:8"} if isinstance(value, list) else set()
    assert [identity.rooms for identity in identities] == [{"user:alice", "role:admin"} | others] * 3
    line = {"event": "claim.ignored", "log_level": "warning", "user": "alice"}
    assert logs == [line | {"claim": "orgId", "type": type_, "reason": reason}] * 2
    assert counted(metrics, "token_claims_ignored_total") == {"orgId": 4}


@pytest.mark.parametrize(
    ("name", "content", "rooms"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["admin", "editor"]}}, {"r:admin", "r:editor"}),
        ("a.b.c", {"a": {"b": {"c": 7}}}, {"r:7"}),
        ("https://example.com/roles", {"https://example.com/roles": ["x"]}, {"r:x"}),
        ("https://example.com/app.roles", {"https://example.com/app": {"roles": ["x"]}}, {"r:x"}),
        ("resource_access.my.app.roles", {"resource_access": {"my.app": {"roles": "x"}}}, {"r:x"}),
        ("a.b", {"a.b": "exact", "a": {"b": "path"}}, {"r:exact"}),
        ("a.b", {"a.b": None, "a": {"b": "path"}}, set()),
        ("a.b.c", {"a": {"b": {"x": 1}}, "a.b": {"c": "longer"}}, {"r:longer"}),
        ("a.b", {"a": {"c": "x"}}, set()),
        ("a.b", {"a": "x"}, set()),
        ("a.b", {"a": ["b"]}, set()),
        ("a.b", {}, set()),
        (".b", {"": {"b": "x"}}, set()),
        ("a.", {"a": {"": "x"}}, {"r:x"}),
    ],
)
async def test_claim_is_named_exactly_or_by_its_path(name: str, content: dict[str, object], rooms: set[str]):
    text = raw_token(HEADER, json.dumps({**claims(), **content}).encode())

    assert (await verifier(room_claims={name: "r:"}).verify(text)).rooms == {"user:alice"} | rooms


@pytest.mark.parametrize("value", [[], None])
async def test_empty_claim_grants_no_room(value: object):
    identity = await verifier().verify(raw_token(HEADER, json.dumps({**claims(), "orgId": value}).encode()))

    assert identity.rooms == {"user:alice"}


async def test_rooms_claim_grants_rooms_verbatim_because_the_token_is_signed():
    identity = await verifier().verify(token(claims(rooms=["user:bob", "org:7", "lobby", 5])))

    assert identity.rooms == {"user:alice", "user:bob", "org:7", "lobby", "5"}
    assert (await verifier().verify(token(claims(rooms="lobby")))).rooms == {"user:alice", "lobby"}
    assert (await verifier().verify(token(claims(rooms=["ok", ""])))).rooms == {"user:alice", "ok"}
    assert (await verifier().verify(token(claims(rooms={"a": 1})))).rooms == {"user:alice"}


async def test_room_claims_are_configurable():
    mapping = {"https://example.com/teams": "team:", "rooms": "custom:"}
    content = claims(**{"https://example.com/teams": ["red"], "rooms": ["a"], "orgId": "7"})

    identity = await verifier(room_claims=mapping).verify(token(content))

    assert identity.rooms == {"user:alice", "team:red", "custom:a"}


async def test_email_that_is_not_a_string_is_ignored():
    assert (await verifier().verify(token(claims(email=5)))).email is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["sub", "exp", "iat", "nbf", "aud", "iss", "rooms", "orgId", "role", "email"])


@given(changes=st.dictionaries(NAMES, JSON, min_size=1))
def test_signed_token_is_accepted_or_rejected_without_another_exception(changes: dict[str, object]):
    text = raw_token(HEADER, json.dumps({**claims(), **changes}).encode())
    jwt_verifier = verifier(audience=("app",), issuer=("us",), max_lifetime_seconds=1e9)

    with contextlib.suppress(TokenRejected):
        asyncio.run(jwt_verifier.verify(text))


@pytest.mark.parametrize(
    ("jti", "token_id"),
    [("t-1", " t-1"), (17, " 17"), ("e\u0301 ü", " e\u0301 ü"), ("x" * 255, " " + "x" * 255), (None, "")],
)
async def test_token_id_is_a_string_or_an_integer_and_may_be_absent(jti: object, token_id: str):
    identity = await verifier().verify(raw_token(HEADER, json.dumps(claims() | {"jti": jti}).encode()))

    assert identity.token_id == token_id


@pytest.mark.parametrize(
    "jti", ["", "x" * 256, "a\nb", "a\u0085", "\ud800", True, 4.2, [], {}, ["t"], 10**256]
)
async def test_token_id_that_could_not_be_revoked_is_rejected(jti: object):
    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(raw_token(HEADER, json.dumps(claims(jti=jti)).encode()))

    assert rejection.value.code == "token_invalid"
    assert "jti" in rejection.value.message
