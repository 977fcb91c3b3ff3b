"""Redis as people run it: with a user and a password, watched by Sentinel, with TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.redis_url import parse_redis_url
from gateway.state.redis.connection import ConnectionFactory
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import append, ids, make, replicas, until, until_redis_says
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer, Sentinels, free_port
from tests.unit.cli.command_line import run


async def test_a_user_with_the_least_rights_is_enough(server: RedisServer) -> None:
    rights = (ROOT / "examples/redis/users.acl").read_text(encoding="utf-8")
    (line,) = [line for line in rights.splitlines() if line.startswith("user sio-gateway ")]
    words = [word.replace("sio-gateway:", "t:") for word in line.split()[2:] if not word.startswith(">")]
    server.ask("ACL", "SETUSER", "sio-gateway", "reset", ">s3cr:t/", *words)
    server.ask("ACL", "SETUSER", "default", "off")

    url = f"redis://sio-gateway:s3cr%3At%2F@127.0.0.1:{server.port}"
    async with replicas(server, "a", "b", url=url, lease_seconds=1.0) as [a, b]:
        await a.subscribe("room")
        await b.register("s1", "ann", "room")
        await b.state.presence.unregister("s1")
        await a.hears(
            await b.push("room"), await b.push("room", size=100_000), await b.push("room", volatile=True)
        )
        await asyncio.sleep(1.0)

        assert a.state.membership.sizes.replicas == 2
        assert a.conditions == []


async def test_sentinel_is_asked_for_the_primary_and_a_failover_is_survived() -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        async with replicas(watched.primary, "a", "b", url=url) as [a, b]:
            await b.subscribe("room")
            await b.register("s1", "ann", "room")
            before = [await a.push("room") for _ in range(20)]
            await b.hears(*before)
            await until(watched.is_replicated, "the replica has it all")

            watched.primary.kill()
            after = []
            for _ in range(20):
                after.append(make("room"))
                await append(a, after[-1], timeout_seconds=40)

            await b.hears(*after)
            assert ids(b.heard) == ids([*before, *after])
            assert watched.replica.ask("ROLE")[0] == b"master"
            assert b.gaps == []
            assert (await a.state.presence.of_user("ann")).online


async def test_a_primary_that_was_replaced_while_it_lived_is_left() -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        async with replicas(watched.primary, "a", "b", url=url) as [a, b]:
            await b.subscribe("room")
            before = [await a.push("room") for _ in range(5)]
            await until(watched.is_replicated, "the replica has it all")

            watched.fail_over()
            after = []
            for _ in range(20):
                after.append(make("room"))
                await append(a, after[-1], timeout_seconds=40)

            await b.hears(*after)
            assert ids(b.heard) == ids([*before, *after])


async def test_presence_is_true_on_a_new_primary_that_never_heard_who_came_and_who_left() -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        async with replicas(watched.primary, "a", "b", url=url, lease_seconds=30) as [a, b]:
            await a.register("leaves", "ann", "room")
            await a.register("stays", "ann", "room")
            await until(watched.is_replicated, "the replica has it all")
            watched.replica.ask("REPLICAOF", "NO", "ONE")  # it is behind from now on
            await a.register("comes", "ann", "room")
            await a.state.presence.unregister("leaves")

            await asyncio.to_thread(watched.primary.kill)

            async def sids() -> set[str]:
                return {each.sid for each in (await b.state.presence.of_user("ann")).connections}

            await until_redis_says(sids, {"comes", "stays"}, seconds=30)
            assert await connections_at(b.state.broker, at("room")) == 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1, its own authority; the key lies beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis of the tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "redis.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@asynccontextmanager
async def behind_tls(port: int, certificate: Path) -> AsyncIterator[int]:
    """A port that speaks TLS in front of one that does not, as stunnel does."""
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

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@asynccontextmanager
async def speaking_tls(server: RedisServer, certificate: Path) -> AsyncIterator[int]:
    """A port of the server that speaks TLS: its own where REDIS_SERVER names one, as Debian's; the wheel's cannot."""
    if "REDIS_SERVER" not in os.environ:
        async with behind_tls(server.port, certificate) as port:
            yield port
        return
    port = free_port()
    files = ["tls-cert-file", certificate, "tls-key-file", certificate.with_suffix(".key")]
    others = ["tls-ca-cert-file", certificate, "tls-auth-clients", "no", "tls-port", port]
    server.ask("CONFIG", "SET", *map(str, files + others))
    yield port


async def test_tls_is_spoken_and_the_certificate_checked(server: RedisServer, certificate: Path) -> None:
    async with speaking_tls(server, certificate) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        async with replicas(server, "a", url=url) as [a]:
            await a.subscribe("room")
            await a.hears(await a.push("room"))

        stranger = ConnectionFactory(
            parse_redis_url(f"rediss://127.0.0.1:{port}"), name="a", timeout_seconds=2.0
        )
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await stranger.connect()


async def test_the_doctor_gets_in_with_the_certificate_and_says_when_it_does_not(
    server: RedisServer, certificate: Path
) -> None:
    keys = {"JWT_SECRET": "s" * 32, "INGEST_KEYS": f"tests:{'i' * 32}", "MAX_CONNECTIONS": "100"}
    async with speaking_tls(server, certificate) as port:
        url = f"rediss://127.0.0.1:{port}"
        known = await asyncio.to_thread(run, "doctor", REDIS_URL=f"{url}?ssl_ca_certs={certificate}", **keys)
        unknown = await asyncio.to_thread(run, "doctor", REDIS_URL=url, **keys)

    assert (known.returncode, unknown.returncode) == (0, 1)
    assert "certificate" in unknown.stdout
