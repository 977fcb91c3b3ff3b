"""Form, header, algorithm and signature: the checks before the claims are read."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms

from gateway.auth import issue_token
from gateway.domain.errors import TokenRejected
from tests.unit.auth.issuer import (
    NOW,
    SECRET,
    base64url,
    claims,
    ec_key,
    ed_key,
    private_pem,
    public_pem,
    raw_token,
    rsa_key,
    token,
    verifier,
)

HEADER = base64url(b'{"alg":"HS256"}')
EVERY_ALGORITHM = [
    *(("HS256", None), ("HS384", None), ("HS512", None)),
    *((name, rsa_key) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    *(("ES256", ec_key), ("ES384", lambda: ec_key(ec.SECP384R1)), ("ES512", lambda: ec_key(ec.SECP521R1))),
    *(("ES256K", lambda: ec_key(ec.SECP256K1)), ("EdDSA", ed_key)),
]


async def accepted(text: str, **options: Any) -> str:
    """Return the user of an accepted token."""
    identity = await verifier(**options).verify(text)
    return identity.user


async def code_of(text: str, **options: Any) -> str:
    with pytest.raises(TokenRejected) as rejection:
        await verifier(**options).verify(text)
    assert len(text) < 20 or text not in rejection.value.message
    return rejection.value.code


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # from signing with HS512
@pytest.mark.parametrize(("algorithm", "make"), EVERY_ALGORITHM, ids=[name for name, _ in EVERY_ALGORITHM])
async def test_algorithm_is_accepted_only_with_its_own_key(algorithm: str, make: Any):
    key = SECRET if make is None else make()
    keys = {"secrets": (SECRET,)} if make is None else {"public_key": public_pem(key)}
    signed = token(key=key, algorithm=algorithm)
    head, payload, signature = signed.split(".")
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]

    jwt_verifier = verifier(algorithms=(algorithm,), **keys)

    assert (await jwt_verifier.verify(signed)).user == "alice"
    assert (
        await code_of(f"{head}.{payload}.{flipped}", algorithms=(algorithm,), **keys)
        == "token_signature_invalid"
    )
    assert await code_of(f"{head}.{payload}.", algorithms=(algorithm,), **keys) == "token_signature_invalid"
    assert (
        await code_of(f"{head}.{payload}.AAAA", algorithms=(algorithm,), **keys) == "token_signature_invalid"
    )


async def test_other_secret_is_an_invalid_signature():
    assert await code_of(token(key="x" * 40)) == "token_signature_invalid"


async def test_changed_payload_is_an_invalid_signature():
    head, _, signature = token().split(".")
    forged = base64url(json.dumps(claims(sub="root")).encode())

    assert await code_of(f"{head}.{forged}.{signature}") == "token_signature_invalid"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS384", "RS256", "hs256", "", "HS256 ", "ES521"]
)
async def test_algorithm_that_is_not_allowed_is_rejected(algorithm: str):
    header = json.dumps({"alg": algorithm}).encode()
    unsigned = f"{base64url(header)}.{base64url(json.dumps(claims()).encode())}."

    assert await code_of(unsigned) == "token_algorithm_refused"
    assert await code_of(raw_token(header, json.dumps(claims()).encode())) == "token_algorithm_refused"


@pytest.mark.parametrize("algorithm", [None, 5, [], ["HS256"], {}, True])
async def test_algorithm_that_is_not_a_string_is_rejected(algorithm: object):
    header = json.dumps({"alg": algorithm}).encode()

    assert await code_of(raw_token(header, b"{}")) == "token_algorithm_refused"
    assert await code_of(raw_token(b"{}", b"{}")) == "token_algorithm_refused"


async def test_public_key_is_never_used_as_a_secret():
    """The algorithm-confusion attack: an HMAC over the token with the public key, which is not secret."""
    pem = public_pem(rsa_key())
    text = f"{HEADER}.{base64url(json.dumps(claims(sub='root')).encode())}"
    hmac = get_default_algorithms()["HS256"]

    for known_text in (pem, pem.strip(), pem.replace("\n", "\r\n")):
        forged = f"{text}.{base64url(hmac.sign(text.encode(), known_text.encode()))}"

        assert await code_of(forged, public_key=pem, algorithms=("RS256",)) == "token_algorithm_refused"
        both = {"public_key": pem, "secrets": (SECRET,), "algorithms": ("RS256", "HS256")}
        assert await code_of(forged, **both) == "token_signature_invalid"


async def test_secret_and_public_key_work_side_by_side():
    jwt_verifier = verifier(
        secrets=(SECRET,), public_key=public_pem(rsa_key()), algorithms=("HS256", "RS256")
    )

    assert (await jwt_verifier.verify(token())).user == "alice"
    assert (await jwt_verifier.verify(token(key=rsa_key(), algorithm="RS256"))).user == "alice"
    assert jwt_verifier.is_ready


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t"])
async def test_key_in_the_header_of_a_token_is_ignored(name: str):
    key = rsa_key("attacker")
    own = {"jwk": json.loads(get_default_algorithms()["RS256"].to_jwk(key.public_key()))}
    header = {name: own.get(name, "http://127.0.0.1:9/keys")}
    options = {"public_key": public_pem(rsa_key()), "algorithms": ("RS256",)}

    assert (
        await code_of(token(key=key, algorithm="RS256", headers=header), **options)
        == "token_signature_invalid"
    )
    assert await accepted(token(key=rsa_key(), algorithm="RS256", headers=header), **options) == "alice"


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], "b64", None])
async def test_critical_extensions_are_rejected(crit: object):
    header = json.dumps({"alg": "HS256", "crit": crit, "b64": True, "exp": 1}).encode()

    assert await code_of(raw_token(header, json.dumps(claims()).encode())) == "token_invalid"


async def test_unencoded_payload_is_rejected():
    header = b'{"alg":"HS256","b64":false}'

    assert await code_of(raw_token(header, json.dumps(claims()).encode())) in {
        "token_malformed",
        "token_invalid",
    }


@pytest.mark.parametrize("kid", [5, [], {}, True])
async def test_kid_that_is_not_a_string_is_rejected(kid: object):
    header = json.dumps({"alg": "HS256", "kid": kid}).encode()

    assert await code_of(raw_token(header, json.dumps(claims()).encode())) == "token_invalid"


async def test_kid_is_ignored_for_a_single_key():
    assert await accepted(token(headers={"kid": "whatever"})) == "alice"


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "...", "a", "a.b", "a.b.c", "e30", "e30.e30", "e30.e30."),
        *("not a token", "Bearer x.y.z"),
        *("\x00", "ü.ü.ü", "\ud800.a.b", "null", "undefined", "[object Object]", "=.=.=", "a" * 8_193),
        *(base64url(header) + ".e30.AAAA" for header in (b"{", b"[]", b"[" * 4000, b"null", b"\xff")),
        *(f"{HEADER}.!!!!.AAAA", f"{HEADER}.e30", f"{HEADER}.e30.AA=A", f"{HEADER}.e30.A"),
    ],
)
async def test_text_that_is_not_a_token_is_rejected(text: str):
    assert await code_of(text) in {"token_malformed", "token_algorithm_refused"}


async def test_token_of_more_than_16_kib_is_too_long():
    assert await accepted(token(claims(data="x" * 11_000))) == "alice"
    assert await code_of(token(claims(data="x" * 16_000))) == "token_too_long"


async def test_rejection_has_the_exception_of_pyjwt_as_its_cause():
    with pytest.raises(TokenRejected) as rejection:
        await verifier().verify(token(key="x" * 40))

    assert isinstance(rejection.value.__cause__, jwt.InvalidSignatureError)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"algorithms": ()}, "are not known"),
        ({"algorithms": ("HS256", "none")}, "none"),
        ({"algorithms": ("RS256",)}, "no key for the JWT algorithms RS256"),
        ({"algorithms": ("HS256",), "public_key": public_pem(rsa_key())}, "no PEM public key for any"),
        ({"algorithms": ("RS256",), "public_key": public_pem(ec_key())}, "no PEM public key for any"),
        ({"algorithms": ("RS256",), "public_key": public_pem(rsa_key("short"))}, "no PEM public key for any"),
        ({"algorithms": ("RS256",), "public_key": private_pem(rsa_key())}, "private key"),
        ({"algorithms": ("RS256",), "public_key": "nonsense"}, "no PEM public key"),
        (
            {"algorithms": ("ES256", "RS256"), "public_key": public_pem(ec_key())},
            "no key for the JWT algorithms RS256",
        ),
        ({"secrets": ("short",)}, "32 bytes"),
        ({"secrets": (public_pem(rsa_key()),)}, "public key"),
        ({"jwks_url": "http://127.0.0.1:9/", "algorithms": ("RS256",)}, "fetches"),
    ],
)
def test_configuration_that_can_never_accept_a_token_is_rejected(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        verifier(**options)


async def test_token_of_issue_token_is_accepted():
    text = issue_token(secret=SECRET, user="bob", now=NOW, ttl_seconds=60, claims={"orgId": "7"})

    identity = await verifier().verify(text)

    assert (identity.user, identity.expires_at, identity.issued_at) == ("bob", NOW + 60, NOW)
    assert identity.rooms == {"user:bob", "org:7"}
