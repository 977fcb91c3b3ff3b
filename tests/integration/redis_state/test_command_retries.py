"""What is asked again: within one patience, by the clock that Redis has, and never more certain than it is."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout
from tests.integration.redis_state.replicas import make, replicas, until, until_redis_says
from tests.support.redis_clock import shift_clock_offset
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy


def signed(nonce: str) -> DedupKey:
    signed_at = float(int(time.time()))
    return DedupKey("shop", nonce, signed_at + 360, signed_at=signed_at)


async def test_a_clock_that_was_set_ahead_further_than_patience_is_believed_at_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", timeout_seconds=1.0) as [a]:
        await a.subscribe("room")
        shift_clock_offset(
            a.state.commands, -10
        )  # what it took for the clock of Redis is ten seconds behind it

        await a.hears(await a.push("room"))
        shift_clock_offset(a.state.commands, -10)
        await a.state.membership.heartbeat()
        shift_clock_offset(a.state.commands, -10)
        await a.state.dedup.consume_nonce(signed("once")._replace(signed_at=None))

        assert a.conditions == []


async def test_a_new_connection_brings_the_clock_however_slow_its_answer_is(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=2.0) as [a],
    ):
        shift_clock_offset(a.state.commands, 3600)  # that of the server before
        ahead = a.state.commands.redis_ms()
        proxy.break_connections()
        await until(lambda: not a.state.commands.is_connected, "the cut is noticed")
        proxy.answer_delay_seconds = 0.4
        proxy.accept_connections()
        await until(lambda: a.state.commands.is_connected, "it is connected again")

        assert a.state.commands.redis_ms() < ahead - 3_500_000


async def test_a_refusal_after_an_attempt_without_an_answer_is_not_certain(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await b.subscribe("room")
        await asyncio.sleep(1.1)  # requests carry whole seconds: this one was signed after the memory began
        await a.push("known now")  # Redis has the script from here on
        proxy.pause_answers()
        news = make("room")
        push = asyncio.create_task(a.state.broker.append(news, signed("once")))
        await b.hears(news)
        server.restart()  # empty: its memory of nonces begins after the request was signed
        proxy.break_connections()
        proxy.resume_answers()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push


async def test_a_nonce_that_an_attempt_without_an_answer_spent_is_no_replay(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await b.subscribe("room")
        await asyncio.sleep(1.1)
        await a.push("known now")  # Redis has the script from here on
        proxy.pause_answers()
        news = make("room")
        push = asyncio.create_task(a.state.broker.append(news, signed("once")))
        await b.hears(news)
        server.ask("DEL", "t:ids:new")  # lost, while the nonce is not
        proxy.break_connections()
        proxy.resume_answers()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push


async def test_a_second_attempt_has_what_the_first_one_left_of_the_patience(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=2.0) as [a],
    ):
        await a.push("known now")
        proxy.pause_answers()
        began = time.monotonic()
        push = asyncio.create_task(a.push("room"))
        await until_redis_says(lambda: length_of_log(server), 2)
        await asyncio.sleep(1.5 - (time.monotonic() - began))
        proxy.break_connections()
        proxy.accept_connections()

        with pytest.raises(BrokerTimeout):
            await push

        assert time.monotonic() - began < 2.5
        proxy.resume_answers()


async def length_of_log(server: RedisServer) -> int:
    length: int = await asyncio.to_thread(server.ask, "XLEN", "t:log")
    return length
