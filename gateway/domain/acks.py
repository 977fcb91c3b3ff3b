"""Acknowledgements of clients that a backend requests with a message, and what was collected of them."""

from __future__ import annotations

from typing import Final, NamedTuple

FIRST: Final = 1
ALL: Final = 0
"""Values of ``AckTerms.want``: one acknowledgement is enough, or each connection has to acknowledge."""
MAX_WANTED: Final = 1_000_000
MIN_ACK_SECONDS: Final = 0.1
MAX_ACK_SECONDS: Final = 25.0
DEFAULT_ACK_SECONDS: Final = 5.0


class AckTerms(NamedTuple):
    """How many acknowledgements are wanted (ALL: of each connection), and for how long they are collected."""

    want: int
    seconds: float


class ClientAck(NamedTuple):
    """The acknowledgement of one connection.

    ``arguments`` is the JSON text of an array, as the client wrote it; ``number`` is how many elements it has.
    ``seconds``: how long after the message was sent it arrived. ``binary`` has JSON pointers to the base64 strings that
    stand for buffers; they begin with ``/data`` for one argument, else with ``/args/0``.
    """

    sid: str
    user: str
    arguments: str
    number: int
    seconds: float
    binary: tuple[str, ...] = ()


class AckReport(NamedTuple):
    """What one replica knows of the acknowledgements to a message. All numbers count from the beginning.

    ``asked``: connections that the message was sent to. Of these ``acked`` have acknowledged it, ``gone`` were closed
    before they did, and ``unawaited`` have too many open acknowledgements, or sent one that is not JSON. ``acks``:
    those that no report had before.
    """

    asked: int
    acked: int
    gone: int
    unawaited: int
    acks: tuple[ClientAck, ...]


class AckResult(NamedTuple):
    """What was collected until the wait ended. ``asked`` = ``acked`` + ``gone`` + ``silent``.

    ``is_complete``: as many acknowledgements as wanted were received. ``unheard``: replicas that have recipients and
    reported nothing. ``is_truncated``: ``acks`` lacks some that ``acked`` counts.
    """

    is_complete: bool
    asked: int = 0
    acked: int = 0
    gone: int = 0
    silent: int = 0
    unheard: tuple[str, ...] = ()
    acks: tuple[ClientAck, ...] = ()
    is_truncated: bool = False
