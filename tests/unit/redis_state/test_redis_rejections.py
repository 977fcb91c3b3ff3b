"""The current rejections of each connection: when the start and the end of one are logged."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.state.redis.errors import NotExecuted, Rejections

REJECTED = NotExecuted("Redis is at its memory limit", rejection="OOM")
LATE = NotExecuted("Redis did not answer in time")


def logged(rejections: Rejections, *problems: NotExecuted | None) -> list[tuple[str, str]]:
    """Record the results of attempts and return the events that are logged, each with its code."""
    with capture_logs() as lines:
        for problem in problems:
            rejections.record("commands", problem)
    return [(line["event"], line["code"]) for line in lines]


def test_rejection_is_logged_once_and_so_is_its_end() -> None:
    lines = logged(Rejections(), REJECTED, REJECTED, None, None)

    assert lines == [("redis.rejecting", "OOM"), ("redis.accepting", "OOM")]


def test_end_of_a_rejection_is_logged_also_after_a_failure_of_another_kind() -> None:
    rejections = Rejections()

    assert logged(rejections, REJECTED, LATE) == [("redis.rejecting", "OOM")]
    assert rejections.now == {}
    assert logged(rejections, REJECTED, LATE, None) == [("redis.accepting", "OOM")]


def test_failure_without_a_rejection_logs_no_end() -> None:
    assert logged(Rejections(), LATE, None) == []
