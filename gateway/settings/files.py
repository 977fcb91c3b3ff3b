"""Files that settings name, which may be pipes or devices: each is read in bounded time and to a bounded size."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
_READ_SECONDS: Final = 5.0


def read_file(path: Path, *, limit_bytes: int = MIB) -> bytes:
    """Return the content of a file, which may be a pipe of the shell (``<(command)``).

    A device without end and a pipe that is not written to are given up.

    Raises: ValueError if the file cannot be read, is larger than the limit, or has not ended in time.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = _read_to_end(file, limit_bytes + 1)
        finally:
            os.close(file)
    except TimeoutError:
        raise ValueError(
            f"cannot read {path}: it is a pipe or a device that did not end within {_READ_SECONDS:.0f} s"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a NUL in the path
        raise ValueError("is not a path of a file") from None
    if len(content) > limit_bytes:
        raise ValueError(f"{path} is larger than {limit_bytes // MIB} MiB")
    return content


def _read_to_end(file: int, limit_bytes: int) -> bytes:
    """Return at most this many bytes. Raises: TimeoutError, OSError."""
    deadline = time.monotonic() + _READ_SECONDS
    ready = select.poll()
    ready.register(file, select.POLLIN)
    content = bytearray()
    while len(content) < limit_bytes:
        # A regular file is always ready. A pipe without a writer is not, and reading it would look like its end.
        if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        part = os.read(file, limit_bytes - len(content))
        if not part:
            break
        content += part
    return bytes(content)


def check_regular(path: Path) -> None:
    """Check a file that a library reads by its name, perhaps again and again: no pipe and no device.

    Raises: ValueError.
    """
    try:
        is_endless = path.is_fifo() or path.is_char_device()
    except (OSError, ValueError):
        return  # the library reports it
    if is_endless:
        raise ValueError(f"cannot read {path}: it is a pipe or a device")


def read_secret(path: Path) -> str:
    """Return the text of a secret file, as Docker and Kubernetes mount them, without one newline at its end.

    Raises: ValueError if the file cannot be read.
    """
    try:
        content = read_file(path).decode()
    except UnicodeDecodeError as error:
        is_utf_16 = error.object.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise ValueError(f"cannot read {path}: it is {'UTF-16, ' if is_utf_16 else ''}not UTF-8") from None
    if content.endswith("\r\n"):
        return content[:-2]
    return content.removesuffix("\n")
