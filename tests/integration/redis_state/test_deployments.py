"""Redis as operators run it: with a user and a password, with Sentinel, with TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.redis_url import parse_redis_url
from gateway.state.redis.connection import ConnectionFactory
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import (
    append_until_accepted,
    await_answer,
    ids,
    make,
    received_probes,
    replicas,
)
from tests.support.certificate import make_certificate
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.waiter import await_until
from tests.unit.cli.command_line import run


async def test_user_with_the_documented_rights_is_sufficient(server: RedisServer) -> None:
    rights = (ROOT / "examples/redis/users.acl").read_text(encoding="utf-8")
    (line,) = [line for line in rights.splitlines() if line.startswith("user sio-gateway ")]
    words = [word.replace("sio-gateway:", "t:") for word in line.split()[2:] if not word.startswith(">")]
    server.execute("ACL", "SETUSER", "sio-gateway", "reset", ">s3cr:t/", *words)
    server.execute("ACL", "SETUSER", "default", "off")

    url = f"redis://sio-gateway:s3cr%3At%2F@127.0.0.1:{server.port}"
    async with replicas(server, "a", "b", url=url, lease_seconds=1.0) as [a, b]:
        await a.subscribe("room")
        await b.register("s1", "ann", "room")
        await b.state.presence.unregister("s1")
        await a.receives(
            await b.push("room"), await b.push("room", size=100_000), await b.push("room", volatile=True)
        )
        await await_until(lambda: a.state.membership.sizes.replicas == 2, "both have sent heartbeats")
        await await_until(lambda: min(map(received_probes, (a, b))) >= 2, "probes arrive at both")

        assert a.statuses == []


async def test_failover_found_through_sentinel_loses_nothing() -> None:
    with Sentinels() as sentinels:
        url = f"redis+sentinel://{sentinels.sentinels}/main"
        async with replicas(sentinels.primary, "a", "b", url=url) as [a, b]:
            await b.subscribe("room")
            await b.register("s1", "ann", "room")
            before = [await a.push("room") for _ in range(20)]
            await b.receives(*before)
            await await_until(sentinels.is_replicated, "the replica has everything")

            sentinels.primary.kill()
            after = []
            for _ in range(20):
                after.append(make("room"))
                await append_until_accepted(a, after[-1], timeout_seconds=40)

            await b.receives(*after)
            assert ids(b.received) == ids([*before, *after])
            assert sentinels.replica.execute("ROLE")[0] == b"master"
            assert b.gaps == []
            assert (await a.state.presence.of_user("ann")).is_online


async def test_primary_that_was_demoted_is_left() -> None:
    with Sentinels() as sentinels:
        url = f"redis+sentinel://{sentinels.sentinels}/main"
        async with replicas(sentinels.primary, "a", "b", url=url) as [a, b]:
            await b.subscribe("room")
            before = [await a.push("room") for _ in range(5)]
            await await_until(sentinels.is_replicated, "the replica has everything")

            sentinels.fail_over()
            after = []
            for _ in range(20):
                after.append(make("room"))
                await append_until_accepted(a, after[-1], timeout_seconds=40)

            await b.receives(*after)
            assert ids(b.received) == ids([*before, *after])


async def test_presence_is_corrected_on_a_new_primary_that_missed_changes() -> None:
    with Sentinels() as sentinels:
        url = f"redis+sentinel://{sentinels.sentinels}/main"
        async with replicas(sentinels.primary, "a", "b", url=url, lease_seconds=30) as [a, b]:
            await a.register("leaves", "ann", "room")
            await a.register("stays", "ann", "room")
            await await_until(sentinels.is_replicated, "the replica has everything")
            sentinels.replica.execute("REPLICAOF", "NO", "ONE")  # it receives nothing from now on
            await a.register("comes", "ann", "room")
            await a.state.presence.unregister("leaves")

            await asyncio.to_thread(sentinels.primary.kill)

            async def sids() -> set[str]:
                return {each.sid for each in (await b.state.presence.of_user("ann")).connections}

            await await_answer(sids, {"comes", "stays"})
            assert await connections_at(b.state.broker, at("room")) == 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1; the key is the file beside it."""
    return make_certificate(tmp_path / "redis.pem")


@asynccontextmanager
async def behind_tls(port: int, certificate: Path) -> AsyncIterator[int]:
    """Open a port with TLS in front of one without, as stunnel does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.transport.abort()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.create_task(pass_on(reader, inner_writer)))
        tasks.add(asyncio.create_task(pass_on(inner_reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", free_port(), ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@asynccontextmanager
async def speaking_tls(server: RedisServer, certificate: Path) -> AsyncIterator[int]:
    """Open a port with TLS: of the server that REDIS_SERVER names, as Debian's; the one of the wheel has no TLS."""
    if "REDIS_SERVER" not in os.environ:
        async with behind_tls(server.port, certificate) as port:
            yield port
        return
    port = free_port()
    files = ["tls-cert-file", certificate, "tls-key-file", certificate.with_suffix(".key")]
    others = ["tls-ca-cert-file", certificate, "tls-auth-clients", "no", "tls-port", port]
    server.execute("CONFIG", "SET", *map(str, files + others))
    yield port


async def test_tls_connection_checks_the_certificate(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        async with replicas(server, "a", url=url) as [a]:
            await a.subscribe("room")
            await a.receives(await a.push("room"))

        uncertified = ConnectionFactory(
            parse_redis_url(f"rediss://127.0.0.1:{port}"), name="a", timeout_seconds=2.0
        )
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await uncertified.connect()


async def test_doctor_connects_with_the_certificate_and_reports_a_failure_without_it(
    server: RedisServer, certificate: Path
) -> None:
    keys = {"JWT_SECRET": "s" * 32, "INGEST_KEYS": f"tests:{'i' * 32}", "MAX_CONNECTIONS": "100"}
    async with speaking_tls(server, certificate) as port:
        url = f"rediss://127.0.0.1:{port}"
        known = await asyncio.to_thread(run, "doctor", REDIS_URL=f"{url}?ssl_ca_certs={certificate}", **keys)
        unknown = await asyncio.to_thread(run, "doctor", REDIS_URL=url, **keys)

    assert (known.returncode, unknown.returncode) == (0, 1)
    assert "certificate" in unknown.stdout
