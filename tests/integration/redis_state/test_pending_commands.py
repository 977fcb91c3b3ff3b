"""Who waits for which answer, without a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import exceptions

from gateway.state.redis.errors import NotExecuted, OutcomeUnknown
from gateway.state.redis.pending import MAX_WAITING_BYTES, PendingCommands

Ask = Callable[..., asyncio.Future[Any]]


@pytest.fixture
async def questions() -> PendingCommands:
    return PendingCommands()


@pytest.fixture
async def ask(questions: PendingCommands) -> Ask:
    def one(packed: bytes, *, whole: bytes | None = None, at: float = 0.0) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        questions.add(packed, None if whole is None else lambda: whole, answer, at)
        return answer

    return one


async def test_what_was_asked_goes_out_in_one_piece_and_is_answered_in_order(
    questions: PendingCommands, ask: Ask
) -> None:
    first, second = ask(b"one "), ask(b"two ")

    assert questions.take() == b"one two "
    questions.complete_oldest(1)
    questions.complete_oldest(2)

    assert (await first, await second, len(questions)) == (1, 2, 0)


async def test_a_late_answer_is_not_taken_for_that_of_the_next_question(
    questions: PendingCommands, ask: Ask
) -> None:
    late = ask(b"late", at=0)
    questions.take()
    assert questions.expire(enqueued_before=5, timeout_seconds=5) == 1
    await failed(late, OutcomeUnknown)

    after = ask(b"after", at=6)
    questions.take()
    questions.complete_oldest("what the first one asked")
    assert not after.done()
    questions.complete_oldest("what the second one asked")

    assert await after == "what the second one asked"


async def test_when_the_oldest_waited_too_long_everybody_on_its_connection_is_told(
    questions: PendingCommands, ask: Ask
) -> None:
    old, young = ask(b"old", at=0), ask(b"young", at=4)
    questions.take()
    unsent = ask(b"unsent", at=4)

    assert questions.expire(enqueued_before=3, timeout_seconds=3) == 2

    await failed(old, OutcomeUnknown)
    await failed(young, OutcomeUnknown)
    assert not unsent.done()


async def test_who_could_not_be_sent_in_time_is_told_that_nothing_happened(
    questions: PendingCommands, ask: Ask
) -> None:
    old, young = ask(b"old", at=0), ask(b"young", at=4)

    assert questions.expire(enqueued_before=3, timeout_seconds=3) == 0

    await failed(old, NotExecuted)
    assert questions.take() == b"young"
    assert not young.done()


async def test_whom_nobody_waits_for_is_not_sent(questions: PendingCommands, ask: Ask) -> None:
    ask(b"one").cancel()
    ask(b"two")

    assert (questions.take(), len(questions)) == (b"two", 1)


async def test_a_script_that_redis_does_not_know_is_sent_whole_once(
    questions: PendingCommands, ask: Ask
) -> None:
    answer = ask(b"digest", whole=b"script")
    questions.take()

    assert questions.fail_oldest(exceptions.NoScriptError("No matching script")) is None
    assert questions.take() == b"script"
    assert questions.fail_oldest(exceptions.NoScriptError("No matching script")) is not None

    await failed(answer, OutcomeUnknown)


async def test_a_refusal_says_whether_anything_happened(questions: PendingCommands, ask: Ask) -> None:
    refused, broken = ask(b"one"), ask(b"two")
    questions.take()

    questions.fail_oldest(exceptions.OutOfMemoryError("command not allowed"))
    questions.fail_oldest(exceptions.ResponseError("ERR in the middle"))

    await failed(refused, NotExecuted)
    await failed(broken, OutcomeUnknown)


async def test_what_was_sent_on_a_lost_connection_has_no_answer_and_the_rest_waits(
    questions: PendingCommands, ask: Ask
) -> None:
    sent = ask(b"sent")
    questions.take()
    unsent = ask(b"unsent")

    questions.connection_ended()

    await failed(sent, OutcomeUnknown)
    assert (questions.take(), unsent.done()) == (b"unsent", False)


async def test_at_the_end_everybody_is_told(questions: PendingCommands, ask: Ask) -> None:
    sent = ask(b"sent")
    questions.take()
    unsent = ask(b"unsent")

    questions.end()

    await failed(sent, OutcomeUnknown)
    await failed(unsent, NotExecuted)
    assert len(questions) == 0


async def test_an_answer_to_nothing_is_an_error(questions: PendingCommands) -> None:
    with pytest.raises(exceptions.InvalidResponse, match="answer without a command"):
        questions.complete_oldest(1)


async def test_what_waits_is_bounded_in_bytes_and_answers_make_room(
    questions: PendingCommands, ask: Ask
) -> None:
    large = ask(b"x" * (MAX_WAITING_BYTES - 1))
    await failed(ask(b"yy"), NotExecuted)

    questions.take()
    questions.complete_oldest(None)

    assert await large is None
    assert not ask(b"yy").done()


async def failed(answer: Awaitable[Any], problem: type[Exception]) -> None:
    with pytest.raises(problem):
        await answer
