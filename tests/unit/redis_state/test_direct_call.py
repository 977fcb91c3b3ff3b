"""A direct call has one task at most, whatever happens to the command of its first attempt afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.errors import BrokerTimeout
from gateway.state.redis.pending import ConfirmedCommands, DirectCall, PendingCommands


@pytest.mark.parametrize(
    "pending", [PendingCommands, lambda: ConfirmedCommands(replicas=1, wait_seconds=1)], ids=["plain", "wait"]
)
@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_command_that_expired_does_not_fail_again_with_its_connection(
    pending: Any, is_answered: bool
) -> None:
    commands: PendingCommands = pending()
    tasks: set[asyncio.Task[Any]] = set()
    attempts = []

    async def complete(first: asyncio.Future[Any]) -> str:
        attempts.append(first)
        try:
            return str(await first)
        except BrokerTimeout:
            await asyncio.sleep(0.02)  # a call that has time left is repeated
            return "repeated"

    call = DirectCall[str](
        asyncio.get_running_loop().create_future(), decode=lambda _: None, complete=complete, tasks=tasks
    )
    commands.add(b"command", None, call, 0.0)
    commands.take()
    if is_answered and isinstance(commands, ConfirmedCommands):
        commands.complete_oldest([b"OK"])  # held until its WAIT is answered

    assert commands.expire(1.0, 1.0) == 1
    await asyncio.sleep(0)
    commands.connection_ended()

    assert await call.result == "repeated"
    assert len(attempts) == 1
    assert not tasks
