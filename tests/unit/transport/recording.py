"""Fakes that record what a session does: a writer, a poll and an observer."""

from __future__ import annotations

from gateway.interfaces import Frames
from gateway.transport.admission import Handshake
from gateway.transport.session import EngineSession

HANDSHAKE = Handshake(authorization=None, query_token=None, address="192.0.2.1")
SEND_BUFFER_BYTES = 100


class RecordingWriter:
    """Records frames. A test sets how many bytes it reports as waiting."""

    def __init__(self) -> None:
        self.deflates_from_bytes: int | None = None
        self.takes_binary = True
        self.frames: list[bytes] = []
        self.waiting = 0
        self.gathered = 0
        self.closed: list[int | None] = []
        self.aborted = False
        self.is_congested = False

    @property
    def takes_plain_frames(self) -> bool:
        return self.deflates_from_bytes is None and self.takes_binary

    @property
    def socket(self) -> RecordingWriter:
        return self

    def frame_of(self, frames: Frames, /, *, may_compress: bool = True) -> bytes:
        if not self.takes_binary:
            frames = frames.as_text
        least = self.deflates_from_bytes
        is_large = may_compress and least is not None and len(frames.frame) >= least
        return frames.compressed if is_large else frames.frame

    def write(self, frame: bytes, /) -> None:
        self.frames += split_frames(frame)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def bytes_waiting(self) -> int:
        return self.waiting

    def bytes_gathered(self) -> int:
        return self.gathered

    def close(self, code: int | None) -> None:
        self.closed.append(code)

    def abort(self) -> None:
        self.aborted = True


def split_frames(written: bytes) -> list[bytes]:
    """Split one write into its unmasked WebSocket frames (RFC 6455 §5.2)."""
    frames = []
    while written:
        long_bytes = {126: 2, 127: 8}.get(written[1], 0)
        length = int.from_bytes(written[2 : 2 + long_bytes], "big") if long_bytes else written[1]
        end = 2 + long_bytes + length
        frames.append(written[:end])
        written = written[end:]
    return frames


class RecordingPoll:
    """Counts the calls of ``wake``. A test sets how many bytes of the answer it reports as unread."""

    def __init__(self) -> None:
        self.woken = 0
        self.unread = 0
        self.aborted = False

    def bytes_unread(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True

    def wake(self) -> None:
        self.woken += 1


class RecordingObserver:
    """Records what a session reports."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.upgraded = 0
        self.skipped: list[str] = []

    def session_closed(self, session: EngineSession, reason: str) -> None:
        self.closed.append(reason)

    def session_upgraded(self, session: EngineSession) -> None:
        self.upgraded += 1

    def volatile_skipped(self, reason: str) -> None:
        self.skipped.append(reason)


def polling_session(
    observer: RecordingObserver, *, send_buffer_bytes: int = SEND_BUFFER_BYTES
) -> EngineSession:
    """Return a session on polling, without a poll."""
    return EngineSession("sid", handshake=HANDSHAKE, observer=observer, send_buffer_bytes=send_buffer_bytes)


def websocket_session(
    observer: RecordingObserver, writer: RecordingWriter, *, send_buffer_bytes: int = SEND_BUFFER_BYTES
) -> EngineSession:
    """Return a session on a WebSocket."""
    return EngineSession(
        "sid", handshake=HANDSHAKE, observer=observer, send_buffer_bytes=send_buffer_bytes, writer=writer
    )
