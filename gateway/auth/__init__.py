"""Tokens to identities: who a connection is, proved by a JSON Web Token (RFC 7519) that somebody else signed.

    verifier   JwtVerifier, what the rest of the house sees: header, key, signature, claims, in that order
    keys       which key may check which algorithm: secret, PEM, JSON Web Key Set (pure)
    remote     the key set of an issuer, fetched, shared and renewed
    claims     what the claims say, and what is refused about them (pure)
    fetching   gets a key set over HTTP
    issuing    signs tokens for the command line and the development page

What is refused is refused with a code of ``TokenRefused`` and a sentence; neither ever quotes the token.
"""

from gateway.auth.jwks import fetch_text
from gateway.auth.verifier import JwtVerifier, issue_token

__all__ = ["JwtVerifier", "fetch_text", "issue_token"]
