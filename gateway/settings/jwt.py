"""Which key of JSON Web Tokens belongs to which algorithm (RFC 7518 §3.1, RFC 8037)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
ASYMMETRIC: Final = (*_RSA, *_CURVES.values(), "EdDSA")
ALGORITHMS: Final = (*SYMMETRIC, *ASYMMETRIC)
# What identity providers publish; a set of keys may hold keys of each kind.
JWKS_DEFAULT: Final = ("RS256", "ES256", "EdDSA")
_MIN_RSA_BITS: Final = 2048


def algorithm(raw: object) -> str:
    """The name of an algorithm, in its own spelling; ``none`` is not one."""
    names = {name.lower(): name for name in ALGORITHMS}
    if not isinstance(raw, str) or raw.lower() not in names:
        raise ValueError(f"{raw!r} is no algorithm that can be allowed; those are {', '.join(ALGORITHMS)}")
    return names[raw.lower()]


def is_secret(text: str) -> bool:
    """Whether a text can be a secret: a public key, a certificate or a JSON Web Key is known to others."""
    from jwt.algorithms import HMACAlgorithm
    from jwt.exceptions import InvalidKeyError

    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text)
    except InvalidKeyError:
        return False
    return True


def public_key(raw: object) -> str:
    """A public key in PEM; ``\\n`` written out in one line, as some shells and dashboards want it, is turned back."""
    if not isinstance(raw, str):
        raise ValueError("is not a text")
    pem = raw if "\n" in raw.strip() else raw.replace("\\n", "\n")
    if "PRIVATE KEY" in pem:
        raise ValueError("is a private key, which stays with whoever issues the tokens: give its public half")
    algorithms_for(pem)
    return pem


def algorithms_for(pem: str) -> tuple[str, ...]:
    """The algorithms that a public key can check, the usual one first; raises ValueError if it can check none."""
    # Late: importing cryptography takes longer than everything else here.
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    rsa = _loaded(RSAAlgorithm(RSAAlgorithm.SHA256), pem)
    if rsa is not None:
        if rsa.key_size < _MIN_RSA_BITS:  # type: ignore[attr-defined]  # of cryptography's RSAPublicKey
            raise ValueError(f"is an RSA key of fewer than {_MIN_RSA_BITS} bits")
        return _RSA
    curve = _loaded(ECAlgorithm(ECAlgorithm.SHA256), pem)
    if curve is not None and curve.curve.name in _CURVES:  # type: ignore[attr-defined]  # EllipticCurvePublicKey
        return (_CURVES[curve.curve.name],)  # type: ignore[attr-defined]
    if _loaded(OKPAlgorithm(), pem) is not None:
        return ("EdDSA",)
    raise ValueError(
        "is no public key in PEM (-----BEGIN PUBLIC KEY-----) of RSA, ES256/384/512/256K or EdDSA"
    )


def _loaded(kind: Algorithm, pem: str) -> object | None:
    from jwt.exceptions import InvalidKeyError

    try:
        loaded: object = kind.prepare_key(pem)
    except (InvalidKeyError, ValueError, TypeError):
        return None
    return loaded
