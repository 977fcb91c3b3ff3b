"""The requests of notifications, and what their answers mean."""

from __future__ import annotations

import json

import pytest

from gateway.domain.webhooks import Delivery, DeliveryOutcome, WebhookEvent
from gateway.webhooks.answers import Answer
from gateway.webhooks.deliveries import delivery_id, encode_delivery, read_delivery
from gateway.webhooks.signing import is_event_id

AT = 1795262400.0
ONE = WebhookEvent("a-1", "user.online", AT, '{"user":"42","version":1795262400000}')
TWO = WebhookEvent("a_2", "client.event", AT + 1, '{"args":["ä"],"sequence":2}')


def test_body_of_one_event_is_that_of_the_vector_of_the_documentation() -> None:
    assert encode_delivery([ONE]) == (
        b'{"type":"user.online","timestamp":"2026-11-21T12:00:00.000Z",'
        b'"data":{"user":"42","version":1795262400000}}'
    )
    assert delivery_id([ONE]) == "a-1"


def test_batch_holds_each_event_with_its_id_and_time() -> None:
    assert json.loads(encode_delivery([ONE, TWO])) == {
        "type": "batch",
        "timestamp": "2026-11-21T12:00:01.000Z",
        "data": [
            {
                "id": "a-1",
                "type": "user.online",
                "timestamp": "2026-11-21T12:00:00.000Z",
                "data": {"user": "42", "version": 1795262400000},
            },
            {
                "id": "a_2",
                "type": "client.event",
                "timestamp": "2026-11-21T12:00:01.000Z",
                "data": {"args": ["ä"], "sequence": 2},
            },
        ],
    }


def test_id_of_a_batch_is_made_of_its_ids_and_has_no_dot() -> None:
    ids = [
        delivery_id([ONE, TWO]),
        delivery_id([TWO, ONE]),
        delivery_id([ONE, TWO._replace(id="a_3")]),
        delivery_id([ONE._replace(id="a-1a"), TWO._replace(id="_2")]),
    ]

    assert len(set(ids)) == 4
    assert all(map(is_event_id, ids))
    assert delivery_id([ONE, TWO._replace(data="{}")]) == ids[0]


@pytest.mark.parametrize("event_id", ["a.b", "", "ä", 'a"', "a" * 129])
def test_id_that_would_end_early_in_the_signed_text_is_in_no_batch(event_id: str) -> None:
    with pytest.raises(ValueError, match="the id of an event"):
        encode_delivery([ONE, TWO._replace(id=event_id)])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_accepts_the_events(status: int) -> None:
    assert read_delivery(Answer(status), now=AT) == Delivery(DeliveryOutcome.ACCEPTED, status)


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_four_statuses_reject_the_events_themselves(status: int) -> None:
    answer = Answer(status, retry_after="5")

    assert read_delivery(answer, now=AT) == Delivery(DeliveryOutcome.REJECTED, status)


@pytest.mark.parametrize(
    "status", [301, 302, 307, 401, 403, 404, 405, 408, 410, 421, 429, 500, 502, 503, 504]
)
def test_every_other_status_is_a_failure_of_the_endpoint(status: int) -> None:
    assert read_delivery(Answer(status), now=AT) == Delivery(DeliveryOutcome.FAILED, status)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999", 3600.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_failure_has_the_pause_that_the_backend_asks_for(text: str, seconds: float | None) -> None:
    delivery = read_delivery(Answer(503, retry_after=text), now=AT)

    assert delivery.retry_after_seconds == seconds
