"""Properties of all values and errors, and the rules of the small ones."""

from __future__ import annotations

import pytest

from gateway.domain import disconnects, errors
from gateway.domain.dedup import DedupKey
from gateway.domain.errors import GatewayError, TokenRejected
from gateway.domain.identity import Identity
from gateway.domain.messages import DisconnectCommand, Message, PublishResult
from gateway.domain.positions import START
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.domain.sessions import RecoverySession

CONNECTION = PresentConnection("s1", "42", "/", "replica-1", "polling", 1.0)
VALUES = [
    RateLimitResult(True, 1, 0, 1.0, 0.0),
    CONNECTION,
    DedupKey("shop", "nonce", 1.0),
    Identity("42", frozenset()),
    DisconnectCommand("id", "42", ("/",), 1.0),
    Message("id", "/", (), "news", ()),
    Rate(1.0, 1),
    PublishResult("id", START, 0, True),
    RecoverySession("pid", "s1", "42", "/", "owner", frozenset(), START),
    UserPresence("42"),
]
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_value_is_immutable_and_has_no_other_attributes(value) -> None:
    first, *_ = type(value).__match_args__

    with pytest.raises(AttributeError):  # FrozenInstanceError is one
        setattr(value, first, "changed")
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(value)


def test_dedup_key_may_have_no_idempotency_key() -> None:
    dedup_key = DedupKey("shop", "nonce", 1.0)

    assert (dedup_key.idempotency_key, dedup_key.scope, dedup_key.fingerprint) == (None, "", "")


def test_dedup_keys_of_the_same_request_are_equal() -> None:
    assert DedupKey("shop", "nonce", 1.0, "key", "scope", "body") == DedupKey(
        "shop", "nonce", 1.0, "key", "scope", "body"
    )


def test_user_is_online_with_a_connection() -> None:
    assert UserPresence("42", (CONNECTION,)).is_online
    assert not UserPresence("42", last_seen=1.0).is_online


def test_every_error_has_its_own_code() -> None:
    codes = [kind.code for kind in ERRORS if "code" in vars(kind)]

    assert len(set(codes)) == len(codes)


def test_every_error_is_in_the_tree_and_has_a_message() -> None:
    assert str(GatewayError("a sentence")) == GatewayError("a sentence").message == "a sentence"
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in ERRORS)


def test_broker_errors_are_temporary_with_a_time_to_retry_after() -> None:
    for kind in (errors.BrokerUnavailable, errors.BrokerTimeout):
        assert kind.temporary
        assert kind("away").retry_after_seconds == 1
        assert kind("away", retry_after_seconds=5).retry_after_seconds == 5
    assert not errors.NonceReplayed.temporary


@pytest.mark.parametrize("code", sorted(TokenRejected.CODES))
def test_rejected_token_has_a_code_of_the_contract(code: str) -> None:
    assert TokenRejected(code, "a sentence").code == code


def test_rejected_token_has_no_other_code() -> None:
    with pytest.raises(ValueError, match="not a code"):
        TokenRejected("token_strange", "a sentence")


def test_only_reasons_that_send_a_packet_delete_the_session() -> None:
    reasons = [
        reason for reason in vars(disconnects).values() if isinstance(reason, disconnects.DisconnectReason)
    ]

    assert len(reasons) >= 8
    assert all(reason.keeps_session != reason.sends_packet for reason in reasons)
    assert all((reason.code is None) == (reason.message is None) for reason in reasons)
    assert disconnects.TOKEN_EXPIRED.close_code == 4401
    assert disconnects.SLOW_CONSUMER.aborts


def test_restart_and_stall_send_no_close_frame_and_every_expected_return_gets_an_error_on_polling() -> None:
    returning = {reason for reason in disconnects.ALL if reason.reconnects}

    assert returning == {disconnects.TOKEN_EXPIRED, disconnects.DRAINING, disconnects.SUBSCRIPTION_STALLED}
    assert disconnects.DRAINING.close_code is disconnects.SUBSCRIPTION_STALLED.close_code is None
    assert all(reason.keeps_session and not reason.aborts for reason in returning)
