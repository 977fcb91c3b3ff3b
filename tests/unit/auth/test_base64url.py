"""The faster check of base64url accepts and rejects what PyJWT's own does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWS
from jwt.exceptions import DecodeError

from gateway.auth.jwk import FastJws

SEGMENTS = st.text("AQgwYZ09-_=+/ \n", max_size=12).map(str.encode) | st.binary(max_size=12)


def outcome(jws: type[PyJWS], segment: bytes) -> bytes | str:
    try:
        return jws._decode_base64url_segment(segment, "payload")
    except DecodeError as error:
        return str(error)


@given(SEGMENTS)
def test_segment_is_decoded_as_by_pyjwt(segment: bytes) -> None:
    assert outcome(FastJws, segment) == outcome(PyJWS, segment)


@pytest.mark.parametrize(
    "segment", [b"", b"YQ", b"YQ==", b"YQ=", b"YR", b"Y", b"YQ===", b"YWI=", b"Y Q", b"Y+/_"]
)
def test_examples_are_decoded_as_by_pyjwt(segment: bytes) -> None:
    assert outcome(FastJws, segment) == outcome(PyJWS, segment)
