"""Run every suite of the state once for each implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.states import IMPLEMENTATIONS, MakeState, StateUnderTest


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
async def make_state(request) -> AsyncIterator[MakeState]:
    made: list[StateUnderTest] = []

    async def make(**limits: Any) -> StateUnderTest:
        made.append(await IMPLEMENTATIONS[request.param](**limits))
        return made[-1]

    yield make
    for state in made:
        await state.close()


@pytest.fixture
async def state(make_state: MakeState) -> StateUnderTest:
    return await make_state()
