"""Why Redis or a Sentinel cannot be reached: each cause has a sentence of its own, with host and port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateMisconfigured
from gateway.domain.redis_url import parse_redis_url
from gateway.state.redis.connection import ConnectionFactory
from tests.integration.redis_state.replicas import replicas
from tests.integration.redis_state.test_deployments import speaking_tls
from tests.support.certificate import make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.waiter import TIMEOUT_SECONDS

PASSWORD, WRONG = "hunter2-right", "hunter2-wrong"


async def problem_of(url: str, *, timeout_seconds: float = 2.0) -> GatewayError:
    """Return the error with which a connection fails."""
    factory = ConnectionFactory(parse_redis_url(url), name="a", timeout_seconds=timeout_seconds)
    with pytest.raises(GatewayError) as raised:
        await factory.connect()
    assert "hunter2" not in raised.value.message
    return raised.value


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path / "redis.pem")


async def test_closed_port() -> None:
    port = free_port()

    problem = await problem_of(f"redis://:{PASSWORD}@127.0.0.1:{port}")

    assert problem.message == (f"Redis at 127.0.0.1:{port} cannot be reached: no server listens there")


async def test_closed_port_of_a_name_with_several_addresses() -> None:
    port = free_port()

    problem = await problem_of(f"redis://localhost:{port}")

    assert f"localhost:{port} cannot be reached: no server listens there" in problem.message


async def test_name_that_cannot_be_resolved() -> None:
    problem = await problem_of(f"redis://:{PASSWORD}@redis.invalid:6399", timeout_seconds=20)

    assert problem.message.startswith(
        "Redis at redis.invalid:6399 cannot be reached: its name cannot be resolved ("
    )


async def test_server_without_tls_behind_a_tls_url(server: RedisServer) -> None:
    problem = await problem_of(f"rediss://:{PASSWORD}@127.0.0.1:{server.port}")

    assert problem.message == (
        f"Redis at 127.0.0.1:{server.port} cannot be reached: it does not speak TLS on this port; without TLS the"
        " URL begins with redis, not rediss"
    )


async def test_server_with_tls_behind_a_url_without(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        problem = await problem_of(f"redis://:{PASSWORD}@127.0.0.1:{port}")

    assert problem.message == (
        f"Redis at 127.0.0.1:{port} cannot be reached: it closed the connection at once; the URL is rediss://,"
        " if it speaks TLS"
    )


async def test_certificate_of_an_unknown_authority(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        problem = await problem_of(f"rediss://:{PASSWORD}@127.0.0.1:{port}")

    assert problem.message == (
        f"Redis at 127.0.0.1:{port} cannot be reached: its certificate is not accepted: self-signed certificate"
        " (ssl_ca_certs names the file of its authority)"
    )


async def test_certificate_of_another_host(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        problem = await problem_of(f"rediss://localhost:{port}?ssl_ca_certs={certificate}")

    assert "its certificate is not accepted: Hostname mismatch" in problem.message


async def test_file_of_the_authority_that_is_missing(server: RedisServer, tmp_path: Path) -> None:
    problem = await problem_of(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={tmp_path / 'none.pem'}")

    assert "a file of the TLS options cannot be read: No such file" in problem.message


async def test_wrong_password(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "requirepass", PASSWORD)

    problem = await problem_of(f"redis://:{WRONG}@127.0.0.1:{server.port}")

    assert isinstance(problem, StateMisconfigured)
    assert problem.message.startswith(
        f"Redis at 127.0.0.1:{server.port} rejects the user and the password of the URL: "
    )


async def test_missing_password(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "requirepass", PASSWORD)

    problem = await problem_of(f"redis://127.0.0.1:{server.port}")

    assert isinstance(problem, StateMisconfigured)
    assert problem.message == (
        f"Redis at 127.0.0.1:{server.port} asks for a password, and the URL has none for it"
    )


async def test_sentinel_behind_a_tls_url_that_speaks_none(server: RedisServer) -> None:
    problem = await problem_of(f"rediss+sentinel://127.0.0.1:{server.port}/main")

    assert problem.message == (
        f"the Sentinel at 127.0.0.1:{server.port} cannot be reached: it does not speak TLS on this port; without"
        " TLS the URL begins with redis, not rediss"
    )


async def test_redis_that_is_no_sentinel(server: RedisServer) -> None:
    problem = await problem_of(f"redis+sentinel://127.0.0.1:{server.port}/main")

    assert problem.message.startswith(
        f"the Sentinel at 127.0.0.1:{server.port} rejects the question for the primary: "
    )


async def test_database_that_does_not_exist(server: RedisServer) -> None:
    problem = await problem_of(f"{server.url}/9999")

    assert (
        problem.message
        == f"Redis at 127.0.0.1:{server.port} rejects the connection: DB index is out of range"
    )


async def test_node_of_a_cluster() -> None:
    node = RedisServer(cluster_enabled="yes")
    try:
        problem = await problem_of(node.url)
    finally:
        node.stop()

    assert isinstance(problem, StateMisconfigured)
    assert problem.message == (
        f"Redis at 127.0.0.1:{node.port} belongs to a Cluster, across which the scripts of the gateway do not work:"
        " use one primary, with Sentinel for failover"
    )


async def test_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        port = silent.getsockname()[1]
        problem = await problem_of(f"redis://127.0.0.1:{port}", timeout_seconds=0.3)

    assert problem.message.startswith(f"Redis at 127.0.0.1:{port} d")
    assert "answer" in problem.message


async def test_sentinels_on_closed_ports_are_listed() -> None:
    ports = [free_port(), free_port()]

    problem = await problem_of(f"redis+sentinel://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/main")

    assert problem.message == "; ".join(
        f"the Sentinel at 127.0.0.1:{port} cannot be reached: no server listens there" for port in ports
    )


LOGIN = "sentinel_password and sentinel_username in the query of GATEWAY_REDIS_URL"


@pytest.fixture
def guarded():
    """Sentinels with a password of their own, and a primary with another one."""
    with Sentinels(password=PASSWORD, primary_password="p-of-redis") as sentinels:
        yield sentinels


async def test_sentinel_and_redis_with_a_password_each_work_from_the_url(guarded: Sentinels) -> None:
    url = f"redis+sentinel://:p-of-redis@{guarded.sentinels}/main?sentinel_password={PASSWORD}"
    async with replicas(guarded.primary, "a", url=url) as [a]:
        await a.subscribe("room")
        await a.receives(await a.push("room"))


async def test_sentinel_whose_password_is_missing_or_wrong_names_the_parameter(guarded: Sentinels) -> None:
    first = guarded.sentinels.partition(",")[0]
    missing = await problem_of(f"redis+sentinel://:p-of-redis@{guarded.sentinels}/main")
    wrong = await problem_of(
        f"redis+sentinel://:p-of-redis@{guarded.sentinels}/main?sentinel_password={WRONG}"
    )
    unnamed = await problem_of(
        f"redis+sentinel://:p-of-redis@{guarded.sentinels}/other?sentinel_password={PASSWORD}"
    )

    assert isinstance(missing, StateMisconfigured)
    assert f"the Sentinel at {first} asks for a password ({LOGIN})" in missing.message
    assert isinstance(wrong, StateMisconfigured)
    assert f"the Sentinel at {first} rejects the user and the password of the URL: " in wrong.message
    assert LOGIN in wrong.message
    assert isinstance(unnamed, BrokerUnavailable)
    assert f"the Sentinel at {first} knows no primary named 'other'" in unnamed.message


async def test_sentinel_behind_a_url_of_redis(guarded: Sentinels) -> None:
    address = guarded.sentinels.partition(",")[0]

    problem = await problem_of(f"redis://:{PASSWORD}@{address}")

    assert isinstance(problem, StateMisconfigured)
    assert problem.message == (
        f"Redis at {address} is a Sentinel, which has no data: write the URL as redis+sentinel://host,host/name"
    )


async def test_primary_whose_password_is_wrong_is_not_taken_for_a_sentinel(guarded: Sentinels) -> None:
    problem = await problem_of(
        f"redis+sentinel://:{WRONG}@{guarded.sentinels}/main?sentinel_password={PASSWORD}"
    )

    assert problem.message.startswith(
        f"Redis at 127.0.0.1:{guarded.primary.port} (the primary that Sentinel names) rejects the user"
    )


@asynccontextmanager
async def starting(url: str) -> AsyncIterator[GatewayProcess]:
    """A gateway that waits for its Redis."""
    process = await asyncio.to_thread(GatewayProcess, redis_url=url, serves=False)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.kill)


async def test_log_of_a_gateway_has_the_sentence(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        for scheme, sentence in (
            ("rediss", "its certificate is not accepted"),
            ("redis", "the URL is rediss://"),
        ):
            async with starting(f"{scheme}://:{PASSWORD}@127.0.0.1:{port}") as gateway:
                line = await asyncio.to_thread(
                    gateway.log.wait,
                    lambda entry: entry.get("event") == "redis.unavailable",
                    timeout=TIMEOUT_SECONDS,
                )
                assert line["reason"].startswith(f"Redis at 127.0.0.1:{port} cannot be reached: ")
                assert sentence in line["reason"]
                assert PASSWORD not in str(gateway.log.entries)
