"""The wait of a backend for acknowledgements: when it ends, and what it returns."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.acks import ALL, FIRST, AckReport, AckResult, AckTerms, ClientAck
from gateway.domain.errors import TooManyAckWaits
from gateway.domain.messages import PublishResult, Reply
from gateway.domain.positions import Position
from gateway.metrics import MetricFactory
from gateway.services.acks import MAX_WAITS, AckWait, AckWaits, decode_report, encode_report
from gateway.state.memory.replies import MemoryReplies
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS

LONG = 20.0


def ack(sid: str, arguments: str = "[1]") -> ClientAck:
    return ClientAck(sid, "ann", arguments, 1, 0.25)


class Waits:
    """The waits of one replica, and the reports of others."""

    def __init__(self, *, max_bytes: int = 100_000, max_held_bytes: int = 1_000_000) -> None:
        self.replies = MemoryReplies("origin")
        self.metrics = MetricFactory()
        self.waits = AckWaits(
            replies=self.replies, max_bytes=max_bytes, metrics=self.metrics, max_held_bytes=max_held_bytes
        )

    async def collect(
        self,
        want: int,
        *reports: tuple[str, AckReport],
        replicas: tuple[str, ...] = ("a", "b"),
        seconds: float = LONG,
    ) -> AckResult:
        """Wait for acknowledgements while these reports arrive, one in each turn of the event loop."""
        with self.waits.open("id", AckTerms(want, seconds)) as wait:
            reporting = asyncio.create_task(self._report(wait, *reports))
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = await wait.wait(published(*replicas))
            await reporting
            return result

    async def _report(self, wait: AckWait, *reports: tuple[str, AckReport]) -> None:
        for replica, report in reports:
            await asyncio.sleep(0)
            wait.on_reply(Reply("id", replica, encode_report(report)))


def published(*replicas: str, replayed: bool = False) -> PublishResult:
    connections = len(replicas)
    return PublishResult("id", Position("1-0"), connections, True, replayed=replayed, replicas=replicas)


def test_report_is_decoded_as_it_was_encoded() -> None:
    report = AckReport(3, 2, 1, 0, (ack("s1", '["ä\\u001e",12345678901234567890]'), ack("s2", "[]")))

    assert decode_report(encode_report(report)) == report


NONE = AckReport(0, 0, 0, 0, ())
ONE = AckReport(1, 1, 0, 0, (ack("1"),))


@pytest.mark.parametrize(
    ("want", "reports", "expected"),
    [
        (FIRST, [("a", AckReport(2, 1, 0, 0, (ack("1"),)))], (True, 2, 1, 0, 1, ("b",))),
        (2, [("a", AckReport(2, 1, 0, 0, (ack("2"),))), ("b", ONE)], (True, 3, 2, 0, 1, ())),
        (ALL, [("a", AckReport(1, 1, 0, 0, (ack("1"),))), ("b", AckReport(0, 0, 0, 0, ()))], (True, 1, 1, 0, 0, ())),
        (ALL, [("a", AckReport(2, 1, 1, 0, (ack("1"),))), ("b", AckReport(1, 0, 0, 1, ()))], (False, 3, 1, 1, 1, ())),
        (ALL, [("a", AckReport(0, 0, 0, 0, ())), ("b", AckReport(0, 0, 0, 0, ()))], (False, 0, 0, 0, 0, ())),
        (5, [("a", AckReport(1, 1, 0, 0, (ack("1"),))), ("b", AckReport(1, 0, 1, 0, ()))], (False, 2, 1, 1, 0, ())),
        # One that connected meanwhile.
        (ALL, [("c", ONE), ("a", NONE), ("b", NONE)], (True, 1, 1, 0, 0, ())),
    ],
)  # fmt: skip
async def test_wait_ends_at_once_with_the_right_counts(
    want: int, reports: list[tuple[str, AckReport]], expected: tuple[object, ...]
) -> None:
    result = await Waits().collect(want, *reports)

    assert result[:6] == expected
    assert result.asked == result.acked + result.gone + result.silent


async def test_replica_that_reports_nothing_is_named_at_the_timeout() -> None:
    waits = Waits()

    result = await waits.collect(ALL, ("b", AckReport(1, 1, 0, 0, (ack("1"),))), seconds=0.1)

    assert result == AckResult(False, 1, 1, 0, 0, ("a",), (ack("1"),))
    assert counted(waits.metrics, "ack_replicas_unheard_total") == {"": 1}
    assert counted(waits.metrics, "ack_outcomes_total") == {"acked": 1}


async def test_message_without_recipients_waits_for_nothing() -> None:
    assert await Waits().collect(ALL, replicas=()) == AckResult(is_complete=False)


async def test_replicas_that_are_not_known_are_waited_for_until_the_timeout() -> None:
    waits = Waits()
    with waits.waits.open("id", AckTerms(ALL, 0.1)) as wait:
        wait.on_reply(Reply("id", "a", encode_report(AckReport(1, 1, 0, 0, (ack("1"),)))))

        result = await wait.wait(published("a")._replace(replicas=()))

    assert result == AckResult(False, 1, 1, 0, 0, (), (ack("1"),))


async def test_report_that_comes_twice_counts_once_and_a_lost_one_is_noticed() -> None:
    once = ("a", AckReport(5, 1, 0, 0, (ack("1"),)))
    older = ("a", AckReport(5, 0, 0, 0, ()))
    # The second acknowledgement was in a report that was lost.
    third = ("a", AckReport(5, 3, 0, 2, (ack("3"),)))

    result = await Waits().collect(ALL, once, once, older, third, replicas=("a",))

    assert result == AckResult(False, 5, 3, 0, 2, (), (ack("1"), ack("3")), is_truncated=True)


async def test_reports_before_the_broker_has_answered_count() -> None:
    waits = Waits()
    with waits.waits.open("id", AckTerms(ALL, LONG)) as wait:
        await waits.replies.send("origin", "id", encode_report(AckReport(1, 1, 0, 0, (ack("1"),))))

        assert (await wait.wait(published("origin"))).is_complete


async def test_acknowledgements_beyond_the_size_of_an_answer_are_counted_alone() -> None:
    large = "[" + "1" * 600 + "]"
    reports = AckReport(3, 3, 0, 0, tuple(ack(sid, large) for sid in "123"))

    result = await Waits(max_bytes=1_000).collect(ALL, ("a", reports), replicas=("a",))

    assert (result.is_complete, result.acked, result.is_truncated) == (True, 3, True)
    assert [each.sid for each in result.acks] == ["1"]


async def test_acknowledgements_beyond_what_all_requests_may_hold_are_counted_alone() -> None:
    waits = Waits(max_held_bytes=1_500)
    content = encode_report(AckReport(1, 1, 0, 0, (ack("1", "[" + "1" * 600 + "]"),)))
    with waits.waits.open("held", AckTerms(FIRST, LONG)) as held:
        held.on_reply(Reply("held", "a", content))
        with waits.waits.open("second", AckTerms(FIRST, LONG)) as second:
            second.on_reply(Reply("second", "a", content))
            with waits.waits.open("third", AckTerms(FIRST, LONG)) as third:
                third.on_reply(Reply("third", "a", content))
                beyond = await third.wait(published("a"))
            assert (beyond.is_complete, beyond.acked, beyond.is_truncated, beyond.acks) == (True, 1, True, ())
        with waits.waits.open("fourth", AckTerms(FIRST, LONG)) as fourth:
            fourth.on_reply(Reply("fourth", "a", content))
            within = await fourth.wait(published("a"))
        assert (len(within.acks), within.is_truncated) == (1, False)
        assert 600 < counted(waits.metrics, "ack_waits_bytes")[""] < 1_000

    assert counted(waits.metrics, "ack_waits_bytes") == {}


async def test_repeat_gets_nothing_and_leaves_the_first_wait_alone() -> None:
    waits = Waits()
    with waits.waits.open("id", AckTerms(FIRST, LONG)) as first:
        with waits.waits.open("another id", AckTerms(FIRST, LONG)) as repeat:
            assert await repeat.wait(published(replayed=True)) == AckResult(is_complete=False)
        await waits.replies.send("origin", "id", encode_report(AckReport(1, 1, 0, 0, (ack("1"),))))
        result = await first.wait(published("origin"))

    assert result.acks == (ack("1"),)
    assert len(waits.replies) == 0


async def test_wait_ends_when_the_process_stops() -> None:
    waits = Waits()
    with waits.waits.open("id", AckTerms(ALL, LONG)) as wait:
        waiting = asyncio.create_task(wait.wait(published("a")))
        await asyncio.sleep(0)

        waits.waits.end_all()

        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert (await waiting).unheard == ("a",)
    with waits.waits.open("later", AckTerms(ALL, LONG)) as later:
        assert (await later.wait(published("a"))).unheard == ("a",)


async def test_cancelled_and_failed_requests_leave_nothing_behind() -> None:
    waits = Waits()
    with pytest.raises(RuntimeError), waits.waits.open("failed", AckTerms(ALL, LONG)):
        raise RuntimeError("the broker rejected it")

    async def wait() -> None:
        with waits.waits.open("id", AckTerms(ALL, LONG)) as opened:
            await opened.wait(published("a"))

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert len(waits.replies) == 0
    assert counted(waits.metrics, "ack_waits") == {}


async def test_number_of_waits_is_limited() -> None:
    waits = Waits()
    opened = [waits.waits.open(str(number), AckTerms(ALL, LONG)) for number in range(MAX_WAITS)]

    with pytest.raises(TooManyAckWaits):
        waits.waits.open("one more", AckTerms(ALL, LONG))

    waits.waits.close(opened[0])
    waits.waits.open("one more", AckTerms(ALL, LONG))
    assert counted(waits.metrics, "ack_waits") == {"": MAX_WAITS}
