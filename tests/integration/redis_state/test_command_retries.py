"""Retries of commands: within one timeout, by the clock of Redis, and never more certain than the first attempt."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout
from tests.integration.redis_state.replicas import await_answer, make, replicas
from tests.support.redis_clock import shift_clock_offset
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until


def signed(nonce: str) -> DedupKey:
    signed_at = float(int(time.time()))
    return DedupKey("shop", nonce, signed_at + 360, signed_at=signed_at)


async def test_clock_set_ahead_by_more_than_the_timeout_is_used_at_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", timeout_seconds=1.0) as [a]:
        await a.subscribe("room")
        shift_clock_offset(a.state.commands, -10)  # it takes the clock of Redis to be ten seconds earlier

        await a.receives(await a.push("room"))
        shift_clock_offset(a.state.commands, -10)
        await a.state.membership.heartbeat()
        shift_clock_offset(a.state.commands, -10)
        await a.state.dedup.consume_nonce(signed("once")._replace(signed_at=None))

        assert a.statuses == []


async def test_new_connection_sets_the_clock_even_from_a_slow_answer(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=2.0) as [a],
    ):
        shift_clock_offset(a.state.commands, 3600)  # as if the former server had another clock
        ahead = a.state.commands.redis_ms()
        proxy.break_connections()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        proxy.answer_delay_seconds = 0.4
        proxy.accept_connections()
        await await_until(lambda: a.state.commands.is_connected, "it is connected again")

        assert a.state.commands.redis_ms() < ahead - 3_500_000


async def test_rejection_after_an_attempt_without_an_answer_is_not_certain(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await b.subscribe("room")
        await await_until(lambda: time.time() > a.state.dedup.began_at, "the memory of nonces has begun")
        await a.push("first")  # Redis knows the script from here on
        proxy.pause_answers()
        news = make("room")
        push = asyncio.create_task(a.state.broker.append(news, signed("once")))
        await b.receives(news)
        server.restart()  # empty: its memory of nonces begins after the request was signed
        proxy.break_connections()
        proxy.resume_answers()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push


async def test_nonce_used_by_an_attempt_without_an_answer_is_not_a_replay(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await b.subscribe("room")
        await await_until(lambda: time.time() > a.state.dedup.began_at, "the memory of nonces has begun")
        await a.push("first")  # Redis knows the script from here on
        proxy.pause_answers()
        news = make("room")
        push = asyncio.create_task(a.state.broker.append(news, signed("once")))
        await b.receives(news)
        server.execute("DEL", "t:ids:new")  # lost, while the nonce is not
        proxy.break_connections()
        proxy.resume_answers()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push


async def test_second_attempt_has_only_the_rest_of_the_timeout(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=8.0) as [a],
    ):
        await a.push("first")
        proxy.pause_answers()
        began = time.monotonic()
        push = asyncio.create_task(a.push("room"))
        await await_answer(lambda: length_of_log(server), 2)
        await asyncio.sleep(6.0 - (time.monotonic() - began))  # three quarters of the timeout
        proxy.break_connections()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push

        # Below the 14 s of a second attempt with a timeout of its own.
        assert time.monotonic() - began < 13.0
        proxy.resume_answers()


async def length_of_log(server: RedisServer) -> int:
    length: int = await asyncio.to_thread(server.execute, "XLEN", "t:log")
    return length
