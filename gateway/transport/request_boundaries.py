"""Where the requests of one HTTP/1.1 connection begin and end (RFC 9112 §2.1, §6); no I/O.

aiohttp's parser drops what follows a request with ``Upgrade`` in the same bytes, and forgets whole requests that stand
before malformed bytes. So it is given the bytes of one request at a time: never more of them than end where a head or a
body ends.
"""

from __future__ import annotations

import re
from typing import Final

_END: Final = b"\r\n\r\n"
"""The end of each head, and of each body in chunks with or without trailers. Both may also hold it elsewhere."""
_OVERLAP: Final = len(_END) - 1
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)


class RequestBoundaries:
    """Cuts bytes into pieces. The end of a head, and of the body of the request, is always the end of a piece."""

    __slots__ = ("_body_left", "_content_bytes", "_joined_body", "_last", "framing_bytes", "head_bytes")

    def __init__(self) -> None:
        self.head_bytes = 0
        """Bytes of a head that has not ended, or of a body in chunks."""
        self.framing_bytes = 0
        """Bytes of a body in chunks since the last content."""
        self._content_bytes = 0
        self._body_left = 0
        """Bytes that are left of a body with a Content-Length."""
        self._joined_body = 0
        """Bytes of the body that were in one piece with the head."""
        self._last = b""
        """The last bytes before those that are cut next, as far as they may be a part of ``_END``."""

    @property
    def is_at_end(self) -> bool:
        """Whether the last piece ended with the end of a head, or with bytes that end like one."""
        return not self._last

    def begin_body(self, content_length: int) -> None:
        """Note that a head has ended, and the length of the body that is left: 0 for one in chunks."""
        self._body_left = max(0, content_length - self._joined_body)
        self._joined_body = self.head_bytes = self.framing_bytes = self._content_bytes = 0

    def count_framing(self, count: int, content_bytes: int) -> None:
        """Count bytes of a body in chunks that bring no content, such as trailers: a parser keeps these to the end.

        ``content_bytes``: the content of the body so far.
        """
        self.framing_bytes = self.framing_bytes + count if content_bytes == self._content_bytes else 0
        self._content_bytes = content_bytes

    def end_body(self) -> None:
        """Note that a body in chunks has ended."""
        self.head_bytes = 0

    def cut(self, data: bytes, start: int) -> int:
        """Return the end of the piece of ``data`` that begins at ``start``; all bytes before it were cut already."""
        if self._body_left:
            end = min(len(data), start + self._body_left)
            self._body_left -= end - start
            return end
        end = self._find_end(data, start)
        is_begun = self.head_bytes > 0
        self.head_bytes += end - start
        if end < len(data) and not is_begun:
            return end + self._find_joined_body(data, start, end)
        return end

    def _find_joined_body(self, data: bytes, start: int, end: int) -> int:
        """Return the length of the body if it is the rest of ``data``: one piece is parsed faster than two.

        If the parser accepts the head, this is its only Content-Length, and there are no chunks beside it.
        """
        found = _CONTENT_LENGTH.search(data, start, end)
        if found is not None and int(found[1]) == len(data) - end:
            self._joined_body = len(data) - end
        return self._joined_body

    def _find_end(self, data: bytes, start: int) -> int:
        if self._last:
            joined = self._last + data[start : start + _OVERLAP]
            found = joined.find(_END)
            if found >= 0:
                end = start + found + len(_END) - len(self._last)
                self._last = b""
                return end
        found = data.find(_END, start)
        if found >= 0:
            self._last = b""
            return found + len(_END)
        self._last = (self._last + data[max(start, len(data) - _OVERLAP) :])[-_OVERLAP:]
        return len(data)
