"""Every refusal as the CONNECT_ERROR that the client's ``connect_error`` handler gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.domain.errors import Refused

INVALID_NAMESPACE: Final[Mapping[str, object]] = {"message": "Invalid namespace"}
"""Exactly as Node's server says it."""


def authentication_error(error: Refused) -> dict[str, object]:
    """What a client is told that may not be here."""
    return {"message": "Authentication error", "data": {"code": error.code}}
