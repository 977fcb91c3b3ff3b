"""Decide whether a client may open a session now: by the state of this replica, then by its limits."""

from __future__ import annotations

from gateway.auth import JwtVerifier
from gateway.domain.status import StateStatus
from gateway.health import Health, Phase
from gateway.services.degraded_mode import DegradedMode
from gateway.socketio_server.client import Clients
from gateway.transport.admission import Admission
from gateway.transport.errors import HandshakeError, unavailable


class AdmissionCheck:
    """Returns None to admit a client with this address, else why its handshake is rejected."""

    def __init__(
        self,
        *,
        health: Health,
        verifier: JwtVerifier,
        degraded_mode: DegradedMode,
        admission: Admission,
        clients: Clients,
    ) -> None:
        self._health = health
        self._verifier = verifier
        self._degraded_mode = degraded_mode
        self._admission = admission
        self._clients = clients

    def __call__(self, address: str) -> HandshakeError | None:
        if self._health.phase is Phase.STARTING:
            return unavailable("starting", "this replica is starting", 1)
        if not self._verifier.is_ready:
            self._verifier.prefetch()
            return unavailable("jwks_unavailable", "the keys to verify tokens are not available yet", 5)
        if self._degraded_mode.status is StateStatus.UNAVAILABLE:
            return unavailable("state_unavailable", "the shared state is unavailable", 5)
        if self._degraded_mode.status is StateStatus.SUBSCRIPTION_STALLED:
            return unavailable("state_stalled", "the subscription to the shared state is stalled", 5)
        return self._admission.decide(
            address,
            sessions=len(self._clients.by_sid),
            unauthenticated=len(self._clients.unauthenticated),
            make_room=self._clients.make_room,
        )
