"""Every suite here runs once for each implementation of the state, without knowing which."""

from __future__ import annotations

import pytest

from tests.contract.states import IMPLEMENTATIONS, MakeState, StateUnderTest


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def make_state(request) -> MakeState:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
async def state(make_state: MakeState) -> StateUnderTest:
    return await make_state()
