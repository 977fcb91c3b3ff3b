"""TokenExpiry: the warning and the end of a token."""

from __future__ import annotations

from gateway.domain.disconnects import TOKEN_EXPIRED
from gateway.domain.times import iso_timestamp
from gateway.hub import ConnectionState
from tests.unit.services.harness import Services


async def test_client_is_warned_a_minute_ahead_and_disconnected_after_the_leeway(
    services: Services,
) -> None:
    connection, transport = await services.connect_live(services.identity("alice", expires_in=200))
    ends = iso_timestamp(services.clock.now() + 200)
    services.token_expiry.watch(connection)

    services.schedule.advance(139.9)
    before_warning = list(transport.emitted)
    services.schedule.advance(0.1)
    warned = list(transport.emitted)
    services.schedule.advance(64.9)
    before = list(transport.disconnects)
    services.schedule.advance(0.1)

    assert (before_warning, warned) == ([], [("auth:expiring", {"expiresAt": ends, "expiresIn": 60})])
    assert (before, transport.disconnects, transport.emitted[1:]) == (
        [],
        [TOKEN_EXPIRED],
        [("auth:expired", {})],
    )


async def test_client_with_a_short_token_is_warned_halfway_and_never_at_once(
    services: Services,
) -> None:
    connection, transport = await services.connect_live(services.identity("alice", expires_in=30))

    services.token_expiry.watch(connection)
    at_once = list(transport.emitted)
    services.schedule.advance(15)

    assert at_once == []
    assert [(event, payload["expiresIn"]) for event, payload in transport.emitted] == [("auth:expiring", 15)]


async def test_client_connected_within_the_leeway_has_the_rest_of_it(services: Services) -> None:
    connection, transport = await services.connect_live(services.identity("alice", expires_in=-3))
    services.token_expiry.watch(connection)

    services.schedule.advance(1.9)
    before = list(transport.disconnects)
    services.schedule.advance(0.1)

    assert (before, transport.disconnects) == ([], [TOKEN_EXPIRED])
    assert transport.emitted[0][1]["expiresIn"] == 0


async def test_newer_token_restarts_the_timer(services: Services) -> None:
    connection, transport = await services.connect_live(services.identity("alice", expires_in=100))
    services.token_expiry.watch(connection)
    services.schedule.advance(50)
    connection.identity = services.identity("alice", expires_in=100)

    services.token_expiry.watch(connection)
    services.schedule.advance(99)

    assert ([event for event, _ in transport.emitted], transport.disconnects) == (
        ["auth:expiring", "auth:expiring"],
        [],
    )
    assert len(services.schedule) == 1


async def test_token_without_an_end_has_no_timer(services: Services) -> None:
    connection, transport = await services.connect_live(services.identity("alice", expires_in=100))
    services.token_expiry.watch(connection)
    connection.identity = services.identity("alice")

    services.token_expiry.watch(connection)
    services.schedule.advance(10_000)

    assert (transport.emitted, transport.disconnects, len(services.schedule)) == ([], [], 0)
    assert services.token_expiry.expires_at_text(connection) is None


async def test_closed_connection_has_no_timer(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", expires_in=100))
    connection.state = ConnectionState.CLOSED

    services.token_expiry.watch(connection)

    assert len(services.schedule) == 0


def test_times_are_iso_8601_with_milliseconds() -> None:
    assert iso_timestamp(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    assert iso_timestamp(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"
    # datetime rounds to microseconds first.
    assert iso_timestamp(1_700_000_000.999_999_9) == "2023-11-14T22:13:21.000Z"
