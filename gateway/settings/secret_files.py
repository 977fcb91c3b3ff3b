"""Secrets that stand in files, as Docker and Kubernetes mount them."""

from __future__ import annotations

from pathlib import Path


def read_secret(path: Path) -> str:
    """The text of a file without one newline at its end; raises ValueError if it cannot be read."""
    try:
        content = path.read_bytes().decode()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8") from None
    if content.endswith("\r\n"):
        return content[:-2]
    return content.removesuffix("\n")
