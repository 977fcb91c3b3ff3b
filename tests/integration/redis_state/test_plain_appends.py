"""Plain messages, which ``append_now`` accepts with few commands of Redis and without a task."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, NonceReplayed
from gateway.domain.messages import Address, LogEntry, Message, PublishResult
from gateway.domain.positions import START, Position, order
from gateway.interfaces import no_flush
from tests.contract.values import at
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    Replica,
    await_answer,
    ids,
    make,
    nonces_have_begun,
    previous_release,
    replicas,
)
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import TIMEOUT_SECONDS, await_until

STEP_SECONDS = 15.0
_numbers = count()
Push = Callable[[Replica, Message, DedupKey], Awaitable[PublishResult]]


def signed(nonce: str | None = None, *, ahead: float = 0.0) -> DedupKey:
    """The dedup key of a request, as the REST API makes it."""
    signed_at = float(int(time.time() + ahead))
    return DedupKey("shop", nonce or f"n{next(_numbers)}", signed_at + 360, signed_at=signed_at)


def begin(replica: Replica, message: Message, key: DedupKey) -> asyncio.Future[PublishResult]:
    """Begin ``append_now``, which has to accept the message."""
    begun = replica.state.broker.append_now(message, key)
    assert begun is not None
    return begun


async def push_now(replica: Replica, message: Message, key: DedupKey) -> PublishResult:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await begin(replica, message, key)


async def push(replica: Replica, message: Message, key: DedupKey) -> PublishResult:
    return await replica.state.broker.append(message, key)


def calls(server: RedisServer) -> dict[str, int]:
    """How often each command was executed, also in scripts."""
    with server.client() as client:
        return {name: each["calls"] for name, each in client.info("commandstats").items()}


async def test_plain_message_takes_few_commands(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await nonces_have_begun(a)
        for _ in range(40):
            await push_now(a, make("room"), signed())
        before = calls(server)
        for _ in range(160):
            await push_now(a, make("room"), signed())
        after = calls(server)

    made = {name: after[name] - before.get(name, 0) for name in after if name != "cmdstat_info"}
    assert made["cmdstat_evalsha"] == 160
    assert (sum(made.values()) - 160) / 160 < 19


async def test_messages_of_one_turn_are_written_to_redis_together(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = asyncio.StreamWriter.write

    def counting(stream: asyncio.StreamWriter, data: bytes) -> None:
        written.append(data.count(b"EVALSHA"))
        write(stream, data)

    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        monkeypatch.setattr(asyncio.StreamWriter, "write", counting)
        begun = [begin(a, make("room"), signed()) for _ in range(20)]
        assert written == []
        async with asyncio.timeout(TIMEOUT_SECONDS):
            results = await asyncio.gather(*begun)

    assert [number for number in written if number] == [20]
    in_order = sorted((each.position for each in results), key=order)
    assert [each.position for each in results] == in_order


async def test_message_on_a_socket_that_was_closed_unnoticed_is_accepted_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failed = asyncio.StreamWriter.write, list[bytes]()

    def failing(stream: asyncio.StreamWriter, data: bytes) -> None:
        if b"EVALSHA" in data and not failed:
            failed.append(data)
            raise RuntimeError("unable to perform operation; the handler is closed")
        write(stream, data)

    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        before = await length_of_log(server)
        monkeypatch.setattr(asyncio.StreamWriter, "write", failing)
        begun = begin(a, pushed := make("room"), signed())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await begun).id == pushed.id

        assert failed
        assert await length_of_log(server) == before + 1


async def test_state_after_plain_messages_is_that_after_ordinary_ones() -> None:
    """The same steps, with limits that are often reached, on two servers; only the way of accepting differs."""
    results, states = [], []
    for way in (push_now, push):
        server = RedisServer()
        try:
            result, state = await _run_steps(server, way)
        finally:
            server.stop()
        results.append(result)
        states.append(state)

    assert results[0] == results[1]
    assert states[0] == states[1]


async def _run_steps(server: RedisServer, way: Push) -> tuple[list[Any], dict[str, Any]]:
    chance = random.Random(7)
    limits = {"history_length": 64, "history_bytes": 40_000, "nonces": 1_200, **MANUAL_HEARTBEATS}
    done: list[Any] = []
    ahead = 0.0
    sids: list[tuple[Replica, str]] = []
    async with replicas(server, "a", "b", **limits) as [a, b]:
        await nonces_have_begun(a)
        for number in range(400):
            replica, room = chance.choice((a, b)), f"room{chance.randrange(12)}"
            match chance.randrange(12):
                case 0:
                    await replica.register(f"sid{number}", "ann", room)
                    sids.append((replica, f"sid{number}"))
                case 1 if sids:
                    holder, sid = sids.pop(chance.randrange(len(sids)))
                    await holder.state.presence.unregister(sid, is_parked=chance.random() < 0.5)
                case 2:
                    # Another size for each message: the log is also bounded by bytes.
                    to_two = make(room, "other", size=number)._replace(id=f"id{number:03}")
                    done.append(_known(await push(replica, to_two, signed(ahead=ahead))))
                case 3:
                    # Less than two windows of nonces in all: a probe would begin them anew after a longer step.
                    ahead += STEP_SECONDS
                    server.age("t", STEP_SECONDS)
                    for each in (a, b):
                        shift_clock(each.state, STEP_SECONDS)
                    for each in (a, b):
                        await each.state.membership.heartbeat()
                case _:
                    message = make(room, size=chance.choice((5, 900)))._replace(id=f"id{number:03}")
                    key = signed(ahead=ahead)
                    try:
                        done.append(_known(await way(replica, message, key)))
                    except BrokerUnavailable as error:
                        done.append(type(error))
    return done, _summary(server)


def _known(result: PublishResult) -> tuple[Any, ...]:
    return result.connections, result.exact, result.recoverable, result.replayed


def _summary(server: RedisServer) -> dict[str, Any]:
    """What every key holds, without ids, times and positions, and whether it has a TTL."""
    found: dict[str, Any] = {}
    with server.client() as client:
        for key in sorted(client.scan_iter(match="t:*", count=1_000)):
            name = key.decode().partition(":nonces:")[0]
            kind = client.type(key).decode()
            size = {
                "stream": client.xlen, "list": client.llen, "zset": client.zcard, "set": client.scard,
                "hash": client.hlen, "string": lambda _: 1,
            }[kind](key)  # fmt: skip
            kinds, sizes, ttl = found.get(name, (kind, 0, True))
            found[name] = kinds, sizes + size, ttl and client.pttl(key) > 0
        head = client.get("t:head").decode().split(" ")
        found["sums"] = head[4:6], head[12]
    return found


async def test_replayed_nonce_is_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        used = signed()
        await push_now(a, make("room"), used)

        for each in (a, b):
            with pytest.raises(NonceReplayed):
                await push_now(each, make("room"), used)
            with pytest.raises(NonceReplayed):
                await push(each, make("room"), used)


async def test_nonce_used_before_the_clock_was_set_back_over_the_end_of_its_window_is_rejected(
    server: RedisServer,
) -> None:
    window = 360.0
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await nonces_have_begun(a)
        to_next_window = window - time.time() % window + 5
        server.age("t", to_next_window)
        shift_clock(a.state, to_next_window)
        await a.state.membership.heartbeat()
        for _ in range(3):
            await push_now(a, make("room"), signed(ahead=to_next_window))
        used = signed(ahead=to_next_window)
        await push_now(a, make("room"), used)
        shift_clock(a.state, -30.0)

        with pytest.raises(NonceReplayed):
            await push_now(a, make("room"), used)


async def test_known_id_returns_the_first_result(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        message, key = make("room"), signed()
        first = await push_now(a, message, key)

        assert await push_now(a, message, key) == first
        assert await push_now(a, message, signed()) == first
        assert await push(a, message, key) == first
        assert await length_of_log(server) == 2


async def test_answer_that_was_lost_is_asked_for_again(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await b.subscribe("room")
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        proxy.pause_answers()
        news = make("room")
        pushed = begin(a, news, signed())
        await b.receives(news)
        proxy.break_connections()
        proxy.resume_answers()
        proxy.accept_connections()

        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await pushed).id == news.id
        assert await length_of_log(server) == 2
        assert ids(b.received).count(news.id) == 1


async def test_push_into_a_frozen_redis_has_an_unknown_outcome_and_is_not_delivered_later(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", timeout_seconds=1.0) as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        server.freeze()
        try:
            with pytest.raises(BrokerTimeout):
                await push_now(a, make("room"), signed())
        finally:
            server.thaw()
        await await_until(lambda: a.state.commands.is_connected, "it is connected again")
        assert await length_of_log(server) == 1


async def test_script_that_redis_has_forgotten_is_sent_again(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        await asyncio.to_thread(server.execute, "SCRIPT", "FLUSH")

        await push_now(a, make("room"), signed())
        assert await length_of_log(server) == 2


@pytest.mark.parametrize("is_sent", [False, True])
async def test_caller_that_gives_up_does_not_disturb_the_answers_of_others(
    server: RedisServer, is_sent: bool
) -> None:
    """A message whose caller gives up in the turn that makes it is not sent."""
    async with replicas(server, "a") as [a]:
        await nonces_have_begun(a)
        await push_now(a, make("room"), signed())
        first, second = make("room"), make("room")
        given_up, waited_for = begin(a, first, signed()), begin(a, second, signed())
        if is_sent:
            await asyncio.sleep(0)
        given_up.cancel()

        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await waited_for).id == second.id
        await await_answer(lambda: length_of_log(server), 3 if is_sent else 2)


async def test_nothing_is_begun_without_a_connection(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url) as [a]:
        await nonces_have_begun(a)
        proxy.break_connections()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")

        assert a.state.broker.append_now(make("room"), signed()) is None


async def test_replica_of_the_previous_release_and_this_one_accept_and_read_for_each_other(
    server: RedisServer,
) -> None:
    async with (
        replicas(server, "old", codec=previous_release()) as [old],
        replicas(server, "new") as [new],
    ):
        await nonces_have_begun(new)
        for each in (old, new):
            await each.subscribe("room")
            await each.register(f"sid-{each.name}", "ann", "room")
        used, sent = [], []
        for number in range(40):
            way, replica = (push, old) if number % 2 else (push_now, new)
            message, key = make("room"), signed()
            assert (await way(replica, message, key)).connections == 2
            used.append(key)
            sent.append(message)
        for key in used:
            for way, replica in ((push, old), (push_now, new)):
                with pytest.raises(NonceReplayed):
                    await way(replica, make("room"), key)

        for each in (old, new):
            await each.receives(*sent)
            assert ids(each.received) == ids(sent)
        page = await new.state.broker.history(
            Position(START), [at("room")], max_entries=100, max_bytes=100_000
        )
        assert ids(entry for _, entry in page.entries) == ids(sent)


async def test_error_of_a_delivery_in_the_step_that_receives_it_ends_the_listener(
    server: RedisServer,
) -> None:
    def fail(_message: Message, _position: Position, _address: Address, /, *, more: bool = False) -> bool:
        raise ZeroDivisionError

    b = Replica(server, "b")
    async with replicas(server, "a") as [a]:
        await nonces_have_begun(a)
        started = asyncio.Event()
        run = asyncio.create_task(b.state.run(started))
        await started.wait()
        listen = asyncio.create_task(b.state.broker.listen(b.listener.deliver, no_flush, fail))
        await b.subscribe("room")
        await push_now(a, make("room"), signed())

        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises(ZeroDivisionError):
                await listen
        assert b.received == []
        assert not run.done()
        run.cancel()
        await asyncio.wait([run])


async def test_message_that_arrives_alone_is_delivered_in_the_step_that_receives_it(
    server: RedisServer,
) -> None:
    at_once: list[Message] = []

    def deliver_now(
        message: Message, _position: Position, _address: Address, /, *, more: bool = False
    ) -> bool:
        at_once.append(message)
        return True

    b = Replica(server, "b")
    async with replicas(server, "a") as [a]:
        await nonces_have_begun(a)
        started = asyncio.Event()
        run = asyncio.create_task(b.state.run(started))
        await started.wait()
        listen = asyncio.create_task(b.state.broker.listen(b.listener.deliver, no_flush, deliver_now))
        await b.subscribe("room", "other")
        first, volatile, second = make("room"), make("room", volatile=True), make("room")
        await push_now(a, first, signed())
        await await_until(lambda: at_once == [first], "it is delivered")
        await a.state.broker.append(volatile)
        await b.receives(volatile)
        to_two = await a.push("room", "other")
        await b.receives(to_two)
        await push_now(a, second, signed())

        await await_until(lambda: at_once == [first, second], "the second one is delivered")
        assert b.received == [volatile, to_two]
        for task in (listen, run):
            task.cancel()
        await asyncio.wait([listen, run])


async def test_messages_that_arrive_together_are_delivered_in_order_and_flushed_after_the_last(
    server: RedisServer,
) -> None:
    steps: list[tuple[str, bool]] = []

    def deliver_now(
        message: Message, _position: Position, _address: Address, /, *, more: bool = False
    ) -> bool:
        if message.event == "left":
            return False
        steps.append((message.id, more))
        return True

    async def deliver(entry: LogEntry, _position: Position, *, more: bool) -> None:
        steps.append((entry.id, more))

    async def flush() -> None:
        steps.append(("flush", False))

    b = Replica(server, "b")
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await nonces_have_begun(a)
        started = asyncio.Event()
        run = asyncio.create_task(b.state.run(started))
        await started.wait()
        listen = asyncio.create_task(b.state.broker.listen(deliver, flush, deliver_now))
        await b.subscribe("room")
        sent: list[str] = []
        for turn in range(20):
            messages = [
                make("room")._replace(event="left" if number % 7 == turn % 7 else "news")
                for number in range(20)
            ]
            sent += [each.id for each in messages]
            begun = [begin(a, each, signed()) for each in messages]
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.gather(*begun)
        last = make("room")
        await push_now(a, last, signed())
        await await_until(lambda: (last.id, False) in steps, "the last one is delivered")

        assert [id_ for id_, _ in steps if id_ != "flush"] == [*sent, last.id]
        assert any(more for _, more in steps), "no two of them arrived together"
        for task in (listen, run):
            task.cancel()
        await asyncio.wait([listen, run])


async def length_of_log(server: RedisServer) -> int:
    length: int = await asyncio.to_thread(server.execute, "XLEN", "t:log")
    return length
