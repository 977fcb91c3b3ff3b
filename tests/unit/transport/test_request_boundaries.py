"""Where requests begin and end: no piece holds bytes after the end of a head or a body."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.request_boundaries import RequestBoundaries

LINES = st.lists(st.sampled_from(["A: b", "C: ", "\r", "x\ry", "z\n"]), max_size=3)
HEADS = LINES.map(lambda lines: "\r\n".join(["GET / HTTP/1.1", *lines, "X: y", "", ""]).encode())
BODIES = st.lists(st.sampled_from([b"\r\n\r\n", b"\r\n", b"\r", b"a", b"bcd"]), max_size=5).map(b"".join)


@given(requests=st.lists(st.tuples(HEADS, BODIES), min_size=1, max_size=4), data=st.data())
def test_each_head_and_each_body_end_where_a_piece_ends_however_the_bytes_are_split(
    requests: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream, bodies, ends_of_bodies = b"", {}, set()
    for head, body in requests:
        stream += head
        bodies[len(stream)] = len(body)
        stream += body
        ends_of_bodies.add(len(stream))
    splits = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=6)) | {len(stream)})

    boundaries, ends = RequestBoundaries(), set()
    for start, stop in zip([0, *splits], splits, strict=False):
        at = start
        while at < stop:
            at = start + boundaries.cut(stream[start:stop], at - start)
            ends.add(at)
            if at in bodies:
                assert boundaries.head_bytes > 0
                boundaries.begin_body(bodies[at])

    assert bodies.keys() | ends_of_bodies <= ends
    assert boundaries.head_bytes == 0


def test_body_in_chunks_ends_where_a_piece_ends() -> None:
    boundaries = RequestBoundaries()
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"4\r\n\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n"
    assert boundaries.cut(head + body, 0) == len(head)
    boundaries.begin_body(0)

    at = 0
    while at < len(body):
        at = boundaries.cut(body + b"GET / HTTP/1.1\r\n\r\n", at)

    assert at == len(body)


def test_trailers_count_as_framing_until_content_arrives() -> None:
    boundaries = RequestBoundaries()
    boundaries.begin_body(0)
    for count, content in ((10, 0), (20, 0), (30, 5), (40, 5)):
        boundaries.count_framing(count, content)

    assert boundaries.framing_bytes == 40
