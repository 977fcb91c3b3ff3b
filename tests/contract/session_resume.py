"""Resuming a session, and the code of a failure."""

from __future__ import annotations

import pytest

from gateway.domain.errors import RecoveryFailed
from gateway.domain.sessions import ResumedSession
from gateway.interfaces import Sessions


async def resume(
    sessions: Sessions, pid: str, *, user: str = "ann", namespace: str = "/", owner: str = "next"
) -> ResumedSession:
    return await sessions.resume(pid, user=user, namespace=namespace, owner=owner)


async def resume_failure(
    sessions: Sessions, pid: str, *, user: str = "ann", namespace: str = "/", owner: str = "rejected"
) -> str:
    """Return the code with which a session is not resumed."""
    with pytest.raises(RecoveryFailed) as raised:
        await sessions.resume(pid, user=user, namespace=namespace, owner=owner)
    return raised.value.code
