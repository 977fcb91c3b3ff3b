"""Everything that the memory state keeps has an end and a maximum."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerUnavailable, FreshnessUnknown, NonceReplayed
from gateway.domain.positions import START
from gateway.domain.rate_limit import Rate
from gateway.domain.sessions import RecoverySession
from gateway.state.memory.ttl_map import TtlMap
from tests.contract.session_resume import resume, resume_failure
from tests.contract.values import (
    connection,
    dedup_key,
    disconnect_command,
    message,
    newest_position,
    revoke_token,
)

ONE_A_SECOND = Rate(per_second=1.0, burst=2)


# --- dedup keys ---


async def test_began_at_is_the_first_whole_second_after_the_store_was_made(make_memory, clock) -> None:
    clock.wall = 1_700_000_000.25
    assert make_memory().dedup.began_at == 1_700_000_001
    clock.wall = 1_700_000_002.0
    assert make_memory().dedup.began_at == 1_700_000_002


async def test_nonces_are_removed_after_their_end(make_memory, clock) -> None:
    state = make_memory()
    for second in range(60):
        await state.dedup.consume_nonce(dedup_key(clock, lives_seconds=second + 1))
    assert state.sizes()["nonces"] == 60
    clock.advance(62)

    for _ in range(30):
        await state.dedup.consume_nonce(dedup_key(clock))

    assert state.sizes()["nonces"] == 30


async def test_nonce_is_kept_until_its_exact_end(make_memory, clock) -> None:
    state = make_memory()
    ends_at = clock.now() + 10.9
    await state.dedup.consume_nonce(DedupKey("shop", "once", ends_at))
    clock.advance(10.8)

    with pytest.raises(NonceReplayed):
        await state.dedup.consume_nonce(DedupKey("shop", "once", clock.now() + 300))


async def test_removed_nonce_does_not_pass_after_the_clock_was_set_back(make_memory, clock) -> None:
    state = make_memory()
    used = dedup_key(clock, nonce="once", lives_seconds=10)
    await state.dedup.consume_nonce(used)
    clock.advance(20)
    await state.dedup.consume_nonce(dedup_key(clock))

    clock.wall -= 20

    with pytest.raises(FreshnessUnknown):
        await state.dedup.consume_nonce(used)


async def test_requests_are_rejected_and_no_nonce_is_removed_at_the_limit_of_nonces(
    make_memory, clock
) -> None:
    state = make_memory(nonces=3)
    before = await newest_position(state.broker)
    used = [dedup_key(clock) for _ in range(3)]
    for each in used:
        await state.dedup.consume_nonce(each)

    with pytest.raises(BrokerUnavailable):
        await state.dedup.consume_nonce(dedup_key(clock))
    with pytest.raises(BrokerUnavailable):
        await state.broker.append(message("a"), dedup_key(clock))

    assert await newest_position(state.broker) == before
    for each in used:
        with pytest.raises(NonceReplayed):
            await state.dedup.consume_nonce(each)
    clock.advance(302)
    await state.dedup.consume_nonce(dedup_key(clock))


async def test_new_idempotency_keys_are_rejected_at_their_limit(make_memory, clock) -> None:
    state = make_memory(idempotency_keys=2, idempotency_seconds=100)
    for key in ("one", "two"):
        await state.broker.append(message("a"), dedup_key(clock, idempotency_key=key))

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(message("a"), dedup_key(clock, idempotency_key="three", nonce="unused"))

    assert (await state.broker.append(message("a"), dedup_key(clock, idempotency_key="one"))).replayed
    await state.dedup.consume_nonce(dedup_key(clock, nonce="unused"))
    clock.advance(101)
    assert not (await state.broker.append(message("a"), dedup_key(clock, idempotency_key="three"))).replayed
    assert state.sizes()["idempotency_keys"] == 1


# --- revocations, presence, sessions, rates ---


async def test_revocation_is_rejected_and_none_is_removed_at_the_limit_of_revoked_users(
    make_memory, clock
) -> None:
    state = make_memory(revoked_users=2, revocation_seconds=100)
    for user in ("ann", "bob", "ann"):
        await state.broker.append(disconnect_command(user, at=1000.0, revoke=True))
    newest = await newest_position(state.broker)

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(disconnect_command("cid", at=1000.0, revoke=True), dedup_key(clock))

    assert (await newest_position(state.broker), state.sizes()["nonces"]) == (newest, 0)
    assert (await state.revocations.read("ann")).user_revoked_at == 1000.0
    clock.advance(101)
    await state.broker.append(disconnect_command("cid", at=1000.0, revoke=True))
    assert state.sizes()["revoked_users"] == 1


async def test_token_is_not_revoked_at_the_limit_of_revoked_tokens_until_others_have_ended(
    make_memory, clock
) -> None:
    state = make_memory(revoked_tokens=2, revocation_seconds=100)
    for token, kept_seconds in ((" t-1", 10), (" t-2", 50), (" t-1", 20)):
        await state.broker.append(revoke_token(token, kept_seconds=kept_seconds))
    newest = await newest_position(state.broker)

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(revoke_token(" t-3"))

    assert (await newest_position(state.broker), state.sizes()["revoked_tokens"]) == (newest, 2)
    clock.advance(21)
    await state.broker.append(revoke_token(" t-3"))
    assert state.sizes()["revoked_tokens"] == 2
    revoked = [(await state.revocations.read("", f" t-{n}")).is_token_revoked for n in (1, 2, 3)]
    assert revoked == [False, True, True]


async def test_revoking_one_token_again_and_again_takes_no_more_memory(make_memory) -> None:
    state = make_memory(revocation_seconds=100_000)

    for seconds in range(1000):
        await state.broker.append(revoke_token(" t-1", kept_seconds=seconds))

    assert state.sizes()["revoked_tokens"] == 1
    assert len(state.revocations._ends) < 20


async def test_oldest_last_seen_is_removed_beyond_the_limit(make_memory) -> None:
    state = make_memory(last_seen_users=2)
    for user in ("ann", "bob", "cid"):
        await state.presence.register(connection(f"sid of {user}", user), [])
        await state.presence.unregister(f"sid of {user}")

    seen = [(await state.presence.of_user(user)).last_seen is not None for user in ("ann", "bob", "cid")]
    assert seen == [False, True, True]


async def test_presence_keeps_only_the_last_seen_of_a_disconnected_user(make_memory, clock) -> None:
    state = make_memory(last_seen_seconds=100)
    for number in range(10):
        await state.presence.register(connection(f"s{number}", f"user {number}"), ["a", f"room {number}"])
        await state.presence.change_rooms(f"s{number}", ["b"])
        await state.presence.unregister(f"s{number}")
    assert state.sizes()["last_seen_users"] == 10
    clock.advance(101)
    await state.presence.register(connection("s", "ann"), [])
    await state.presence.unregister("s")

    sizes = state.sizes()
    assert (sizes["connections"], sizes["present_addresses"], sizes["last_seen_users"]) == (0, 0, 1)


async def test_oldest_parked_session_is_removed_beyond_the_limit(make_memory) -> None:
    state = make_memory(max_parked_sessions=2)
    for pid in ("one", "two", "three"):
        await park_session(state, pid)

    assert await resume_failure(state.sessions, "one") == "unknown_session"
    for pid in ("two", "three"):
        assert (await resume(state.sessions, pid)).session.sid == f"sid {pid}"


async def test_oldest_parked_session_of_a_user_is_removed_beyond_the_limit(make_memory, clock) -> None:
    state = make_memory(max_parked_of_user=2, recovery_seconds=100)
    await park_session(state, "other", user="bob")
    for pid in ("one", "two", "three"):
        await state.presence.register(connection(f"sid {pid}", "ann"), [])
        await state.presence.unregister(f"sid {pid}", is_parked=True)
        await park_session(state, pid)

    assert (await state.presence.of_user("ann")).recoverable == 2
    assert await resume_failure(state.sessions, "one") == "unknown_session"
    assert (await resume(state.sessions, "two")).session.sid == "sid two"
    assert await resume_failure(state.sessions, "other") == "other_user"
    await park_session(state, "four")
    assert (await resume(state.sessions, "three")).session.sid == "sid three"
    clock.advance(201)
    for pid in ("five", "six"):
        await park_session(state, pid)
    for pid in ("five", "six"):
        assert (await resume(state.sessions, pid)).session.sid == f"sid {pid}"


async def test_parked_sessions_take_no_more_than_their_bytes(make_memory) -> None:
    state = make_memory(max_parked_bytes=100_000)
    for number in range(100):
        await park_session(state, str(number), rooms=frozenset(f"{each} {'x' * 280}" for each in range(20)))

    assert 5 < state.sizes()["sessions"] < 15
    assert (await resume(state.sessions, "99")).session.sid == "sid 99"


async def test_resumed_session_is_kept_once(make_memory) -> None:
    state = make_memory()
    await park_session(state, "pid")

    await resume(state.sessions, "pid")

    assert state.sizes()["sessions"] == 1


async def test_session_expires_exactly_after_the_window_and_is_unknown_exactly_after_two(
    make_memory, clock
) -> None:
    state = make_memory(recovery_seconds=100)
    for pid in ("one", "two"):
        await park_session(state, pid)

    clock.advance(99.75)
    assert not (await resume(state.sessions, "one")).in_use
    clock.advance(0.25)
    assert await resume_failure(state.sessions, "two") == "session_expired"
    clock.advance(99.75)
    assert await resume_failure(state.sessions, "two") == "session_expired"
    clock.advance(0.25)
    assert await resume_failure(state.sessions, "two") == "unknown_session"


async def test_parked_sessions_are_removed_as_others_are_parked(make_memory, clock) -> None:
    state = make_memory(recovery_seconds=100)
    for number in range(10):
        await park_session(state, f"former {number}")
    clock.advance(199)
    await park_session(state, "late")
    assert state.sizes()["sessions"] == 11
    clock.advance(2)

    await park_session(state, "last")

    assert state.sizes()["sessions"] == 2


async def park_session(state, pid: str, *, user: str = "ann", rooms: frozenset[str] = frozenset()) -> None:
    await state.sessions.save(RecoverySession(pid, f"sid {pid}", user, "/", "owner", rooms, START))
    await state.sessions.park(pid, owner="owner")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_second=st.floats(0.001, 10_000),
    burst=st.integers(1, 1_000),
    waits=st.lists(st.floats(0, 10), max_size=5),
)
async def test_request_is_allowed_exactly_when_the_rejection_stated(
    make_memory, clock, *, per_second: float, burst: int, waits: list[float]
) -> None:
    state, rate = make_memory(), Rate(per_second, burst)
    for wait in [*waits, 0.0]:
        clock.advance(wait)
        while (result := await state.rates.consume("shop", rate)).allowed:
            assert result.remaining < burst
        clock.advance(result.retry_after_seconds)
        assert (await state.rates.consume("shop", rate)).allowed


async def test_full_buckets_are_removed(make_memory, clock) -> None:
    state = make_memory()
    for number in range(50):
        await state.rates.consume(f"bucket {number}", ONE_A_SECOND)
    assert state.sizes()["rate_buckets"] == 50
    clock.advance(1.5)

    for _ in range(30):
        await state.rates.consume("busy", ONE_A_SECOND)

    assert state.sizes()["rate_buckets"] == 1


async def test_bucket_unused_for_the_longest_is_removed_beyond_the_limit(make_memory) -> None:
    state = make_memory(rate_buckets=2)
    for bucket in ("a", "a", "b", "b", "c"):
        await state.rates.consume(bucket, ONE_A_SECOND)

    assert state.sizes()["rate_buckets"] == 2
    assert (await state.rates.consume("b", ONE_A_SECOND)).allowed is False
    assert (await state.rates.consume("a", ONE_A_SECOND)).remaining == 1


# --- TtlMap ---


def test_item_expires_at_its_time_and_is_removed_by_later_puts(clock) -> None:
    items: TtlMap[str, int] = TtlMap(clock=clock, seconds=10, max_items=100)
    items.put("a", 1)
    clock.advance(9.9)
    assert items.get("a") == 1

    clock.advance(0.1)

    assert items.get("a") is None
    assert items.pop("a") is None
    items.put("b", 2)
    assert len(items) == 1


def test_putting_again_restarts_the_time(clock) -> None:
    items: TtlMap[str, int] = TtlMap(clock=clock, seconds=10, max_items=100)
    items.put("a", 1)
    clock.advance(6)
    items.put("a", 2)
    clock.advance(6)

    assert items.get("a") == 2


def test_oldest_item_is_removed_beyond_the_limit(clock) -> None:
    items: TtlMap[str, int] = TtlMap(clock=clock, seconds=10, max_items=2)
    for number, key in enumerate(("a", "b", "a", "c")):
        items.put(key, number)

    assert [items.get(key) for key in ("a", "b", "c")] == [2, None, 3]


def test_many_items_that_expire_together_are_removed_in_small_steps(clock) -> None:
    items: TtlMap[int, int] = TtlMap(clock=clock, seconds=10, max_items=10_000)
    for number in range(1_000):
        items.put(number, number)
    clock.advance(10)

    items.put(-1, -1)
    after_one = len(items)
    for number in range(100):
        items.put(-2 - number, 0)

    assert 900 < after_one < 1_000
    assert len(items) == 101


async def test_claims_of_client_events_are_rejected_at_the_limit_and_removed_when_they_end(
    make_memory, clock
) -> None:
    state = make_memory(max_acks=2)
    for key in ("a", "b"):
        assert (await state.acks.claim(key, key, user=key, seconds=60)).is_held
    await state.acks.keep("a", "a", "[]", user="a")

    with pytest.raises(BrokerUnavailable):
        await state.acks.claim("c", "c", user="c", seconds=60)
    assert state.sizes()["event_acks"] == 2
    clock.advance(61)
    assert (await state.acks.claim("c", "c", user="c", seconds=60)).is_held
    assert state.sizes()["event_acks"] == 2
    assert (await state.acks.claim("a", "x", user="a", seconds=60)).ack == "[]"


async def test_counts_of_users_are_removed_when_nothing_of_them_is_kept(make_memory, clock) -> None:
    state = make_memory()
    for number in range(100):
        await state.acks.claim(f"kept-{number}", "one", user=f"kept-{number}", seconds=60)
        await state.acks.keep(f"kept-{number}", "one", "[]", user=f"kept-{number}")
        await state.acks.claim(f"released-{number}", "one", user=f"released-{number}", seconds=60)
        await state.acks.release(f"released-{number}", "one", user=f"released-{number}")
    assert state.acks.users == 100

    clock.advance(750)
    for _ in range(50):
        await state.acks.claim("new", "one", user="new", seconds=60)
        clock.advance(60)

    assert state.acks.users == 1
