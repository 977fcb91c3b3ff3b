"""Gets a key set over HTTP; satisfies ``remote.Fetch``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import aiohttp

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 1024 * 1024


async def fetch_text(url: str) -> str:
    """The text at an address, MAX_BYTES at most; raises aiohttp.ClientError, TimeoutError, UnicodeDecodeError.

    Redirects are not followed: the operator named one address, and keys from another would be trusted all the same.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url, allow_redirects=False) as answer:
        answer.raise_for_status()
        if answer.status != HTTPStatus.OK:
            raise aiohttp.ClientError(f"status {answer.status} instead of a key set")
        return await _read(answer)


async def _read(answer: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise aiohttp.ClientError(f"a key set has at most {MAX_BYTES} bytes")
    return body.decode()
