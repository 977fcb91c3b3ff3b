"""Emits with acknowledgement: what replicas report of their connections, and the wait of a backend for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import orjson
import structlog

from gateway.domain.acks import ALL, AckReport, AckResult, AckTerms, ClientAck
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, TooManyAckWaits
from gateway.domain.messages import PublishResult, Reply
from gateway.hub import Asks
from gateway.hub.connection import Ask
from gateway.interfaces import Replies
from gateway.metrics import MetricFactory, one_label

MAX_WAITS: Final = 1_000
"""Requests of backends that wait for acknowledgements at once."""
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of all acknowledgements that these requests hold."""
SWEEP_SECONDS: Final = 1.0
REPEAT_SECONDS: Final = 0.5
"""The time after which reports that could not be sent are sent again."""
ACKED, GONE, SILENT = "acked", "gone", "silent"
_ENTRY_BYTES: Final = 128
"""What an acknowledgement takes in an answer, beside its arguments and the names in it."""

log = structlog.get_logger(__name__)


class AckReporter:
    """Reports what connections of this replica acknowledged, to the replicas whose backends wait for it.

    What happened in one turn of the event loop is one report for each message. A report that cannot be sent is
    repeated until the time of its message is over.
    """

    def __init__(self, *, asks: Asks, replies: Replies, metrics: MetricFactory) -> None:
        self._asks = asks
        self._replies = replies
        self._failed = metrics.counter(
            "ack_reports_failed",
            "Attempts to report acknowledgements that did not reach the shared state.",
        )

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report(), name="acknowledgement reports")
            tasks.create_task(self._sweep(), name="open acknowledgements")

    async def _report(self) -> None:
        while True:
            changed = await self._asks.changed()
            # Each ask is reported in order, and does not wait for others.
            sent = await asyncio.gather(*[self._send(ask, reports) for ask, reports in changed.items()])
            if not all(sent):
                await asyncio.sleep(REPEAT_SECONDS)

    async def _send(self, ask: Ask, reports: Sequence[AckReport]) -> bool:
        """Send reports in order; return whether all were. One with an unknown outcome changes nothing if repeated."""
        done = 0
        try:
            for report in reports:
                await self._replies.send(ask.reply_to, ask.message_id, encode_report(report))
                done += 1
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._failed.count()
            if time.monotonic() < ask.ends_at:
                self._asks.put_back(ask, reports[done:])
            else:
                log.warning("ack.report_failed", code=error.code, message_id=ask.message_id)
            return False
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._asks.expire()


class Acks:
    """Both sides of emits with acknowledgement: ``waits`` of backends, and reports on connections of this replica."""

    def __init__(self, asks: Asks, replies: Replies, *, max_bytes: int, metrics: MetricFactory) -> None:
        """``max_bytes``: of all acknowledgements in one answer."""
        self.waits = AckWaits(replies=replies, max_bytes=max_bytes, metrics=metrics)
        self._reporter = AckReporter(asks=asks, replies=replies, metrics=metrics)

    async def run(self) -> None:
        """Report until cancelled."""
        await self._reporter.run()


class AckWaits:
    """The requests of backends that wait for acknowledgements on this replica."""

    def __init__(
        self,
        *,
        replies: Replies,
        max_bytes: int,
        metrics: MetricFactory,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """``max_bytes``: of all acknowledgements in one answer; ``max_held_bytes``: in all that are not sent yet."""
        self._replies = replies
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._waiting: set[AckWait] = set()
        self._is_closing = False
        metrics.callback_gauge(
            "ack_waits",
            "Requests of backends that wait for acknowledgements.",
            read=lambda: len(self._waiting),
        )
        metrics.callback_gauge(
            "ack_waits_bytes",
            "Bytes of acknowledgements that requests of backends hold.",
            read=lambda: self._held_bytes,
        )
        self._outcomes = metrics.counter(
            "ack_outcomes",
            "Connections that backends asked for an acknowledgement, by outcome when the wait ended.",
            ("outcome",),
            one_label((ACKED, GONE, SILENT)),
        )
        self._unheard = metrics.counter(
            "ack_replicas_unheard",
            "Replicas with recipients that reported nothing until a wait ended incomplete.",
        )

    @property
    def replica(self) -> str:
        """The name of this replica, for ``Message.reply_to``."""
        return self._replies.replica

    def open(self, message_id: str, terms: AckTerms) -> AckWait:
        """Expect reports on a message that is about to be published. The result is a context manager.

        Raises: TooManyAckWaits.
        """
        if len(self._waiting) >= MAX_WAITS:
            raise TooManyAckWaits("too many requests wait for acknowledgements on this replica")
        wait = AckWait(self, message_id, terms, max_bytes=self._max_bytes)
        self._waiting.add(wait)
        self._replies.expect(message_id, wait.on_reply)
        if self._is_closing:
            wait.end()
        return wait

    def close(self, wait: AckWait) -> None:
        """Expect no more reports on the message of a wait. Idempotent."""
        self._waiting.discard(wait)
        self._replies.forget(wait.message_id)

    def hold(self, size: int) -> bool:
        """Count bytes of an acknowledgement that is held; return whether they are within the limit."""
        if self._held_bytes + size > self._max_held_bytes:
            return False
        self._held_bytes += size
        return True

    def release(self, size: int) -> None:
        """Count bytes as no longer held."""
        self._held_bytes -= size

    def record(self, result: AckResult) -> None:
        """Count the result of a wait."""
        for outcome, number in ((ACKED, result.acked), (GONE, result.gone), (SILENT, result.silent)):
            if number:
                self._outcomes.count((outcome,), number)
        if result.unheard and not result.is_complete:
            self._unheard.count((), len(result.unheard))

    def end_all(self) -> None:
        """End all waits, those that begin from now on included: the process stops."""
        self._is_closing = True
        for wait in list(self._waiting):
            wait.end()


class AckWait:
    """The wait for the acknowledgements to one message."""

    def __init__(self, waits: AckWaits, message_id: str, terms: AckTerms, *, max_bytes: int) -> None:
        self.message_id = message_id
        self._waits = waits
        self._terms = terms
        self._max_bytes = max_bytes
        self._bytes = 0
        self._replicas: tuple[str, ...] | None = None
        """The replicas that are expected to report; None while they are not known."""
        self._reports: dict[str, AckReport] = {}
        """The last report of each replica, without its acknowledgements."""
        self._acks: list[ClientAck] = []
        self._is_truncated = False
        self._ended = asyncio.Event()

    def __enter__(self) -> AckWait:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits.close(self)
        self._waits.release(self._bytes)
        self._bytes = 0

    def end(self) -> None:
        """End the wait now, with what was collected."""
        self._ended.set()

    def on_reply(self, reply: Reply) -> None:
        """Add what a replica reported."""
        report = decode_report(reply.content)
        known = self._reports.get(reply.replica)
        new = report.acked - (0 if known is None else known.acked)
        if new < 0:
            return  # an older report that came twice
        listed = report.acks[-new:] if new else ()
        self._is_truncated = self._is_truncated or len(listed) < new
        for ack in listed:
            self._list(ack)
        self._reports[reply.replica] = report._replace(acks=())
        if self._is_over():
            self._ended.set()

    async def wait(self, result: PublishResult) -> AckResult:
        """Return what was collected once the wait is over. ``result`` is that of the message.

        It ends when as many acknowledgements as wanted were received, when each connection that was asked has
        acknowledged or is gone, at the timeout, or by ``end``. A repeated request gets nothing. Where ``result`` does
        not name the replicas, one of them may not have reported yet: all others are waited for until the timeout.
        """
        if result.replayed:
            return AckResult(is_complete=False)
        self._replicas = result.replicas if result.knows_replicas else None
        if not self._is_over():
            try:
                async with asyncio.timeout(self._terms.seconds):
                    await self._ended.wait()
            except TimeoutError:
                pass
        self._waits.close(self)
        collected = self._result()
        self._waits.record(collected)
        return collected

    def _list(self, ack: ClientAck) -> None:
        size = len(ack.arguments.encode()) + len(ack.sid) + len(ack.user.encode()) + _ENTRY_BYTES
        size += sum([len(orjson.dumps(pointer)) + 1 for pointer in ack.binary])
        if self._bytes + size > self._max_bytes or not self._waits.hold(size):
            self._is_truncated = True
            return
        self._bytes += size
        self._acks.append(ack)

    def _is_over(self) -> bool:
        reports = self._reports.values()
        wanted = self._terms.want
        if wanted != ALL and sum([report.acked for report in reports]) >= wanted:
            return True
        return (
            self._replicas is not None
            and self._reports.keys() >= set(self._replicas)
            and all(report.acked + report.gone + report.unawaited >= report.asked for report in reports)
        )

    def _result(self) -> AckResult:
        reports = self._reports.values()
        asked, acked, gone = (
            sum(column) for column in zip((0, 0, 0), *[each[:3] for each in reports], strict=True)
        )
        unheard = tuple(sorted(set(self._replicas or ()).difference(self._reports)))
        wanted = self._terms.want
        if wanted == ALL:
            is_complete = 0 < asked == acked and self._replicas is not None and not unheard
        else:
            is_complete = acked >= wanted
        return AckResult(
            is_complete,
            asked,
            acked,
            gone,
            asked - acked - gone,
            unheard,
            tuple(self._acks),
            self._is_truncated,
        )


def encode_report(report: AckReport) -> str:
    """Encode a report as JSON. The arguments of clients stay text."""
    return orjson.dumps([*report[:4], [[*ack] for ack in report.acks]]).decode()


def decode_report(content: str) -> AckReport:
    """Decode a report that a replica encoded."""
    asked, acked, gone, unawaited, acks = orjson.loads(content)
    listed = [
        ClientAck(sid, user, arguments, number, seconds, tuple(binary))
        for sid, user, arguments, number, seconds, binary in acks
    ]
    return AckReport(asked, acked, gone, unawaited, tuple(listed))
