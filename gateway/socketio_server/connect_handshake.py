"""The connect handshake of a namespace: the token, the recovery request, and the packets that accept a connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from gateway.domain.errors import ConnectionRejected, ConnectsTooFast, RecoveryFailed, TokenRejected
from gateway.domain.positions import Position
from gateway.domain.rate_limit import KeyRates
from gateway.domain.sessions import RecoveryRequest
from gateway.hub import Connection
from gateway.interfaces import Clock, Schedule, TokenVerifier, sleep
from gateway.metrics import MetricFactory, one_label
from gateway.services.connect import Connector
from gateway.services.degraded_mode import GAP_EVENT
from gateway.services.recovery import ConnectResult
from gateway.services.replay import Replayer
from gateway.services.token_expiry import TokenExpiry
from gateway.socketio_server import packets
from gateway.socketio_server.client import Client, SocketIOTransport
from gateway.transport.admission import Handshake
from gateway.transport.packets import Frames
from gateway.transport.session import EngineSession

AUTHENTICATED: Final = "authenticated"
RECOVERIES: Final = ("recovered", *sorted(RecoveryFailed.CODES))
"""How a recovery request ended."""
BEARER: Final = "bearer"
"""The scheme of tokens in ``Authorization`` (RFC 6750 §2.1), in lower case."""
CONNECTS_PER_SECOND: Final = 10.0
"""How often one user may connect for long. A connect costs several round trips of the shared state."""
MIN_CONNECT_BURST: Final = 200
"""How many connections of a user may connect at once, at least."""
HOLD_SECONDS: Final = 5.0
"""How long a connect that comes too early is held."""
_MAX_USERS: Final = 65_536
_OTHER_NAMES: Final = ("authorization", "Authorization", "accessToken", "access_token", "jwt")
_ATTEMPT_NUMBERS: Final = count()


def find_token(auth: object, handshake: Handshake) -> str:
    """Return ``auth.token`` of the CONNECT packet, else the token of ``Authorization``, of the query, or of the cookie.

    The first place that has a value decides: a bad token never falls through to the next place. An ``Authorization``
    of another scheme is a proxy's, and so no value; nor is an empty text, or ``Bearer`` with nothing behind it.

    Raises: TokenRejected, with token_missing, or token_malformed for a value that is not a token.
    """
    places = (
        auth.get("token") if isinstance(auth, dict) else None,
        _without_other_schemes(handshake.authorization),
        handshake.query_token,
        handshake.cookie_token,
    )
    for value in places:
        if not (value is None or (isinstance(value, str) and not _without_scheme(value))):
            return bearer_token(value)
    raise TokenRejected(
        "token_missing",
        "send a token as auth.token, Authorization: Bearer or the query's token" + _hint(auth),
    )


def bearer_token(value: object) -> str:
    """Return a token without white space around it, and without ``Bearer`` in front of it.

    Raises: TokenRejected, with token_malformed.
    """
    text = _without_scheme(value) if isinstance(value, str) else ""
    if not text:
        raise TokenRejected("token_malformed", "a token is a non-empty string")
    return text


def _without_scheme(value: str) -> str:
    text = value.strip()
    parts = text.split(maxsplit=1)
    return "".join(parts[1:]) if parts and parts[0].lower() == BEARER else text


def _without_other_schemes(authorization: str | None) -> str | None:
    """Return the header if it holds a bearer token, or a token without any scheme, which has two dots."""
    text = (authorization or "").strip()
    scheme, _, rest = text.partition(" ")
    is_token = scheme.lower() == BEARER or (not rest and text.count(".") == 2)
    return text if is_token else None


def _hint(auth: object) -> str:
    """Name the fields of ``auth`` in which applications send tokens to other servers. No other text is repeated."""
    found = [name for name in _OTHER_NAMES if isinstance(auth, dict) and auth.get(name)]
    return f" (auth has {' and '.join(found)}, which the gateway does not read)" if found else ""


def read_recovery_request(auth: object, session: EngineSession) -> RecoveryRequest:
    """Read ``auth.pid`` and ``auth.offset`` of the stock client, and ``auth.resume``, which an application may send.

    ``auth.recovery: false`` or ``recovery=0`` in the query declines recovery.
    """
    fields = auth if isinstance(auth, dict) else {}
    return RecoveryRequest(
        # A client may join, leave and join again; a late report about one connection must not touch the other.
        owner=f"{session.sid}/{next(_ATTEMPT_NUMBERS)}",
        pid=fields.get("pid"),
        offset=fields.get("offset"),
        resume=fields.get("resume"),
        is_declined=fields.get("recovery") is False or session.handshake.declines_recovery,
    )


def authentication_error(error: ConnectionRejected) -> dict[str, object]:
    """Return the payload of the CONNECT_ERROR for a rejected token."""
    data: dict[str, object] = {"code": error.code}
    if error.retry_after_seconds is not None:
        data["retryAfter"] = error.retry_after_seconds
    return {"message": "Authentication error", "data": data}


class ConnectPace:
    """Limits how often the clients of one user connect to this replica. A connect that comes too early is held.

    So a client that joins and leaves in a loop waits for its own connects, and no client is rejected that reconnects.
    """

    def __init__(self, *, clock: Clock, schedule: Schedule, burst: int) -> None:
        self._clock = clock
        self._schedule = schedule
        self._rates = KeyRates(
            per_second=CONNECTS_PER_SECOND, burst=burst, max_keys=_MAX_USERS, now=clock.monotonic()
        )

    async def wait(self, user: str) -> None:
        """Wait until the user may connect, at most HOLD_SECONDS.

        Raises: ConnectsTooFast if that is not long enough.
        """
        now = self._clock.monotonic()
        seconds = self._rates.wait_seconds(user, now)
        if seconds <= HOLD_SECONDS:
            self._rates.take(user, now)
        if seconds:
            await sleep(self._schedule, min(seconds, HOLD_SECONDS))
        if seconds > HOLD_SECONDS:
            raise ConnectsTooFast("this user connects too often")


class ConnectHandshake:
    """Takes a client through the connect handshake of one namespace."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        connector: Connector,
        pace: ConnectPace,
        replayer: Replayer,
        token_expiry: TokenExpiry,
        disconnect: Callable[[Connection], None],
        metrics: MetricFactory,
    ) -> None:
        """``disconnect`` undoes a connect whose client was closed meanwhile."""
        self._verifier = verifier
        self._connector = connector
        self._pace = pace
        self._replayer = replayer
        self._token_expiry = token_expiry
        self._disconnect = disconnect
        self._recoveries = metrics.counter(
            "recoveries",
            "Recovery requests of clients: recovered, or the reason why not.",
            ("outcome",),
            one_label(RECOVERIES),
        )

    async def connect(self, client: Client, namespace: str, auth: object) -> Connection | None:
        """Verify the token, register the connection and accept it; return None if the client was closed meanwhile.

        Raises: ConnectionRejected, KeysUnavailable, ConnectsTooFast, BrokerUnavailable, BrokerTimeout.
        """
        session = client.session
        identity = await self._verifier.verify(find_token(auth, session.handshake))
        await self._pace.wait(identity.user)
        if session.is_closed:
            return None  # The token may have been held for seconds.
        transport = SocketIOTransport(client, namespace)
        result = await self._connector.connect(
            identity, namespace, transport, read_recovery_request(auth, session)
        )
        connection = result.connection
        # Nothing waits from here on, so the next delivered message follows CONNECT.
        if not session.is_closed:
            self._accept(result)
        if session.is_closed:
            # The client closed meanwhile, or its send buffer was too full even for these packets.
            self._disconnect(connection)
            return None
        client.connections[namespace] = connection
        client.join_deadline.cancel()
        client.idle_closing = False
        self._token_expiry.watch(connection)
        return connection

    async def finish(self, connection: Connection) -> None:
        """Send what is kept for the user to a new connection without a recovery session. Raises nothing."""
        if connection.session is None:
            await self._connector.append_kept_live(connection)

    def _accept(self, result: ConnectResult) -> None:
        """Send CONNECT, the missed messages if the connection is resumed, and ``authenticated``; then it goes live."""
        connection = result.connection
        pid = None if connection.session is None else connection.session.pid
        first = [packets.connect(connection.namespace, connection.sid, pid)]
        if result.first_page is not None:
            connection.recovery = "recovered"
            self._recoveries.count(("recovered",))
            self._replayer.start(result, first, partial(_authenticated_payload, connection))
            return
        first.append(_authenticated_payload(connection, result.position, False))
        if result.failure is not None:
            connection.recovery = result.failure
            self._recoveries.count((result.failure,))
            first.append(packets.event(connection.namespace, GAP_EVENT, {"code": result.failure}))
        self._replayer.start(result, first, None)


def _authenticated_payload(connection: Connection, position: Position, recovered: bool) -> Frames:
    identity = connection.identity
    payload: dict[str, object] = {
        "success": True,
        "userId": identity.user,
        "email": identity.email,
        "socketId": connection.sid,
    }
    if recovered:
        payload["recovered"] = True
    offset = position if connection.wants_offsets else None
    return packets.event(connection.namespace, AUTHENTICATED, payload, offset)
