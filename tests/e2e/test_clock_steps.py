"""The wall clocks of Redis, of a gateway and of a backend are set, in both directions: what a backend sees."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.backend import Answer
from tests.support.faketime import SteppedClock
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

BODY = json.dumps({"event": "e"}).encode()
HOUR = 3600
LITTLE, MUCH = (10, -10), (HOUR, -HOUR)
UNKNOWN = (503, "freshness_unknown")


@dataclass
class Surroundings:
    """A gateway, perhaps with Redis, each under a clock of its own. Backends have the real time."""

    gateway: GatewayProcess
    host: SteppedClock
    redis: SteppedClock | None

    def push(self, *, ahead_seconds: int = 0) -> tuple[int, str]:
        """Push with a timestamp; return status and code."""
        answer = self._send(int(time.time()) + ahead_seconds)
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
        return answer.status, answer.body.get("code", "ok")

    def _send(self, timestamp: int) -> Answer:
        backend = self.gateway.backend
        headers = backend.sign("POST", "/broadcast", BODY, timestamp=timestamp)
        return backend.send("POST", "/broadcast", BODY, headers=headers)

    def wait_until_accepted(self) -> None:
        wait_until(lambda: self.push()[0] == 200, "a push is accepted")

    def captured(self) -> dict[str, str]:
        """Push, and return the headers of the request."""
        backend = self.gateway.backend
        headers = backend.sign("POST", "/broadcast", BODY)
        assert backend.send("POST", "/broadcast", BODY, headers=headers).status == 200
        return headers

    def send_again(self, headers: dict[str, str]) -> int:
        return self.gateway.backend.send("POST", "/broadcast", BODY, headers=headers).status


@pytest.fixture
def with_redis() -> Iterator[Surroundings]:
    host, clock = SteppedClock(), SteppedClock()
    with ExitStack() as stack:
        stack.callback(host.stop)
        stack.callback(clock.stop)
        redis = RedisServer(under=clock.under)
        stack.callback(redis.stop)
        gateway = GatewayProcess(under=host.under, redis_url=redis.url)
        stack.callback(gateway.kill)
        yield Surroundings(gateway, host, clock)


@pytest.fixture
def without_redis() -> Iterator[Surroundings]:
    host = SteppedClock()
    gateway = GatewayProcess(under=host.under)
    yield Surroundings(gateway, host, None)
    gateway.kill()
    host.stop()


@pytest.mark.parametrize("seconds", LITTLE)
def test_clock_of_redis_that_is_set_by_seconds_changes_nothing(
    with_redis: Surroundings, seconds: int
) -> None:
    with_redis.wait_until_accepted()
    used = with_redis.captured()
    assert with_redis.redis is not None

    with_redis.redis.step_to(seconds)

    assert [with_redis.push()[0] for _ in range(20)] == [200] * 20
    assert with_redis.send_again(used) == 401


@pytest.mark.parametrize("seconds", MUCH)
def test_clock_of_redis_that_is_set_by_an_hour_is_reported_and_no_request_is_called_wrong(
    with_redis: Surroundings, seconds: int
) -> None:
    with_redis.wait_until_accepted()
    used = with_redis.captured()
    assert with_redis.redis is not None

    with_redis.redis.step_to(seconds)

    wait_until(lambda: with_redis.push() == UNKNOWN, "pushes are not accepted")
    assert {with_redis.push() for _ in range(20)} == {UNKNOWN}
    with_redis.gateway.log.wait(lambda line: line.get("event") == "gateway.clock_skew")
    with_redis.redis.step_to(0)
    with_redis.wait_until_accepted()
    with_redis.gateway.log.wait(lambda line: line.get("event") == "gateway.clocks_agree")
    assert with_redis.send_again(used) in {401, 503}


def test_clock_of_redis_that_drifts_changes_nothing(with_redis: Surroundings) -> None:
    with_redis.wait_until_accepted()
    assert with_redis.redis is not None
    for tenths in range(0, 300, 5):
        with_redis.redis.step_to(tenths / 10)
        assert with_redis.push()[0] == 200


@pytest.mark.parametrize("seconds", [*LITTLE, *MUCH])
def test_clock_of_a_replica_that_is_set_changes_nothing(with_redis: Surroundings, seconds: int) -> None:
    with_redis.wait_until_accepted()
    used = with_redis.captured()

    with_redis.host.step_to(seconds)

    assert [with_redis.push()[0] for _ in range(20)] == [200] * 20
    assert with_redis.send_again(used) == 401
    if seconds in MUCH:
        with_redis.gateway.log.wait(lambda line: line.get("event") == "gateway.clock_skew")
    with_redis.host.step_to(0)
    assert with_redis.push()[0] == 200


@pytest.mark.parametrize("seconds", LITTLE)
def test_clock_of_the_host_that_is_set_by_seconds_changes_nothing_without_redis(
    without_redis: Surroundings, seconds: int
) -> None:
    used = without_redis.captured()

    without_redis.host.step_to(seconds)

    without_redis.wait_until_accepted()
    assert [without_redis.push()[0] for _ in range(20)] == [200] * 20
    assert without_redis.send_again(used) == 401


@pytest.mark.parametrize("seconds", MUCH)
def test_clock_of_the_host_that_is_set_by_an_hour_calls_no_request_wrong_without_redis(
    without_redis: Surroundings, seconds: int
) -> None:
    used = without_redis.captured()

    without_redis.host.step_to(seconds)

    assert {without_redis.push() for _ in range(20)} == {UNKNOWN}
    without_redis.host.step_to(0)
    without_redis.wait_until_accepted()
    assert without_redis.send_again(used) in {401, 503}


@pytest.mark.parametrize("name", ["with_redis", "without_redis"])
def test_backend_gets_the_time_of_the_gateway_if_its_clock_is_an_hour_off(
    request: pytest.FixtureRequest, name: str
) -> None:
    surroundings: Surroundings = request.getfixturevalue(name)
    surroundings.wait_until_accepted()

    for ahead_seconds in MUCH:
        assert surroundings.push(ahead_seconds=ahead_seconds) == (401, "timestamp_out_of_range")
    # It is behind by ten seconds: accepted once the store of nonces is as old.
    assert surroundings.push(ahead_seconds=-10) in {(200, "ok"), UNKNOWN}
    wait_until(lambda: surroundings.push(ahead_seconds=-10)[0] == 200, "it is accepted", seconds=20)
