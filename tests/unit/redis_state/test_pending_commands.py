"""Which command gets which answer, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import exceptions

from gateway.state.redis.errors import NotExecuted, OutcomeUnknown
from gateway.state.redis.pending import MAX_WAITING_BYTES, PendingCommands

Enqueue = Callable[..., asyncio.Future[Any]]


@pytest.fixture
async def pending() -> PendingCommands:
    return PendingCommands()


@pytest.fixture
async def enqueue(pending: PendingCommands) -> Enqueue:
    def one(packed: bytes, *, whole: bytes | None = None, at: float = 0.0) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        pending.add(packed, None if whole is None else lambda: whole, answer, at)
        return answer

    return one


async def test_commands_are_sent_in_one_piece_and_answered_in_order(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    first, second = enqueue(b"one "), enqueue(b"two ")

    assert pending.take() == b"one two "
    pending.complete_oldest(1)
    pending.complete_oldest(2)

    assert (await first, await second, len(pending)) == (1, 2, 0)


async def test_late_answer_is_not_taken_for_that_of_the_next_command(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    late = enqueue(b"late", at=0)
    pending.take()
    assert pending.expire(enqueued_before=5, timeout_seconds=5) == 1
    await failed(late, OutcomeUnknown)

    after = enqueue(b"after", at=6)
    pending.take()
    pending.complete_oldest("answer to the first")
    assert not after.done()
    pending.complete_oldest("answer to the second")

    assert await after == "answer to the second"


async def test_sent_commands_fail_together_when_the_oldest_expires(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    old, young = enqueue(b"old", at=0), enqueue(b"young", at=4)
    pending.take()
    unsent = enqueue(b"unsent", at=4)

    assert pending.expire(enqueued_before=3, timeout_seconds=3) == 2

    await failed(old, OutcomeUnknown)
    await failed(young, OutcomeUnknown)
    assert not unsent.done()


async def test_unsent_command_that_expires_was_not_executed(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    old, young = enqueue(b"old", at=0), enqueue(b"young", at=4)

    assert pending.expire(enqueued_before=3, timeout_seconds=3) == 0

    await failed(old, NotExecuted)
    assert pending.take() == b"young"
    assert not young.done()


async def test_cancelled_command_is_not_sent(pending: PendingCommands, enqueue: Enqueue) -> None:
    enqueue(b"one").cancel()
    enqueue(b"two")

    assert (pending.take(), len(pending)) == (b"two", 1)


async def test_script_unknown_to_redis_is_sent_as_text_once(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    answer = enqueue(b"digest", whole=b"script")
    pending.take()

    assert pending.fail_oldest(exceptions.NoScriptError("No matching script")) is None
    assert pending.take() == b"script"
    assert pending.fail_oldest(exceptions.NoScriptError("No matching script")) is not None

    await failed(answer, OutcomeUnknown)


async def test_error_reply_shows_whether_the_command_was_executed(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    rejected, broken = enqueue(b"one"), enqueue(b"two")
    pending.take()

    pending.fail_oldest(exceptions.OutOfMemoryError("command not allowed"))
    pending.fail_oldest(exceptions.ResponseError("ERR in the middle"))

    await failed(rejected, NotExecuted)
    await failed(broken, OutcomeUnknown)


async def test_sent_commands_of_a_lost_connection_fail_and_unsent_ones_wait(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    sent = enqueue(b"sent")
    pending.take()
    unsent = enqueue(b"unsent")

    pending.connection_ended()

    await failed(sent, OutcomeUnknown)
    assert (pending.take(), unsent.done()) == (b"unsent", False)


async def test_every_command_fails_at_the_end(pending: PendingCommands, enqueue: Enqueue) -> None:
    sent = enqueue(b"sent")
    pending.take()
    unsent = enqueue(b"unsent")

    pending.end()

    await failed(sent, OutcomeUnknown)
    await failed(unsent, NotExecuted)
    assert len(pending) == 0


async def test_answer_without_a_command_is_an_error(pending: PendingCommands) -> None:
    with pytest.raises(exceptions.InvalidResponse, match="answer without a command"):
        pending.complete_oldest(1)


async def test_waiting_commands_are_bounded_in_bytes_and_answers_free_space(
    pending: PendingCommands, enqueue: Enqueue
) -> None:
    large = enqueue(b"x" * (MAX_WAITING_BYTES - 1))
    await failed(enqueue(b"yy"), NotExecuted)

    pending.take()
    pending.complete_oldest(None)

    assert await large is None
    assert not enqueue(b"yy").done()


async def failed(answer: Awaitable[Any], problem: type[Exception]) -> None:
    with pytest.raises(problem):
        await answer
