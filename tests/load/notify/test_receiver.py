"""The backend of these tests verifies, records, and fails as it was commanded to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.load.notify.receiver import KEY, Failure, ReceiverProcess


@pytest.fixture
def receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess() as process:
        yield process


def event(n: int, **argument: Any) -> dict[str, Any]:
    data = {"connection": {"user": "u"}, "args": [{"n": n} | argument], "sequence": 10 + n}
    return {"type": "client.event", "data": data}


def post(
    receiver: ReceiverProcess,
    event_id: str,
    body: dict[str, Any],
    *,
    key: bytes = KEY,
    at: float | None = None,
) -> http.client.HTTPResponse:
    text = json.dumps(body).encode()
    signed_at = str(int(time.time() if at is None else at))
    digest = hmac.digest(key, f"{event_id}.{signed_at}.".encode() + text, hashlib.sha256)
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=1)
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": signed_at,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    try:
        connection.request("POST", "/gateway", text, headers)
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_verified_events_are_recorded_with_their_ids(receiver: ReceiverProcess) -> None:
    batch = {"type": "batch", "data": [event(2) | {"id": "b"}, event(3) | {"id": "c"}]}

    assert post(receiver, "a", event(1)).status == 200
    assert post(receiver, "batch", batch).status == 200
    assert post(receiver, "a", event(1)).status == 200

    assert receiver.counts() == (4, 3)
    assert [(each.id, each.user, each.n, each.rank, each.size) for each in receiver.received(after=1)] == [
        ("b", "u", 2, 12, 2),
        ("c", "u", 3, 13, 2),
        ("a", "u", 1, 11, 1),
    ]
    assert receiver.wrong() == []


def test_wrong_signature_and_wrong_time_are_found(receiver: ReceiverProcess) -> None:
    assert post(receiver, "a", event(1), key=bytes(32)).status == 401
    assert post(receiver, "a", event(1), at=time.time() - 400).status == 401

    assert receiver.counts() == (0, 0)
    assert [sentence.partition(":")[0] for sentence in receiver.wrong()] == [
        "a wrong signature",
        "a wrong timestamp",
    ]


def test_failures_are_those_that_were_commanded(receiver: ReceiverProcess) -> None:
    receiver.fail(429, **{"Retry-After": "4"})
    answer = post(receiver, "a", event(1))
    assert (answer.status, answer.headers["Retry-After"]) == (429, "4")
    receiver.fail(Failure.HANG)
    with pytest.raises(TimeoutError):
        post(receiver, "b", event(2))
    receiver.fail(Failure.CLOSE)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(receiver, "c", event(3))
    receiver.fail(Failure.DOWN)
    with pytest.raises(ConnectionError):
        post(receiver, "d", event(4))

    receiver.accept()

    assert post(receiver, "d", event(4)).status == 200
    assert [each.id for each in receiver.failed_tries()] == ["a", "b", "c"]
    assert receiver.counts() == (1, 1)


def test_poison_is_rejected_until_it_is_accepted(receiver: ReceiverProcess) -> None:
    poison = event(1, poison=True)
    batch = {"type": "batch", "data": [poison | {"id": "a"}, event(2) | {"id": "b"}]}

    assert post(receiver, "a", poison).status == 422
    assert post(receiver, "batch", batch).status == 422
    assert receiver.counts() == (0, 0)
    receiver.accept_poison()

    assert post(receiver, "a", poison).status == 200
