"""Verify access tokens: JSON Web Tokens (RFC 7519) that prove the identity of a connection.

    verifier   JwtVerifier: checks header, key, signature and claims, in this order; issue_token signs tokens
    signatures  header and signature of a token (pure)
    key_ring   KeyRing: the algorithms and keys of one issuer
    jwk        Key and JSON Web Keys: which key may check which algorithm (pure)
    jwks       JwksCache: the key set of an issuer, fetched over HTTP and refreshed
    claims     checks the claims, and derives the Identity from them (pure)

A rejected token raises ``TokenRejected`` with a code and a sentence. Neither ever contains a part of the token.
"""

from gateway.auth.jwks import fetch_text
from gateway.auth.verifier import JwtVerifier, issue_token

__all__ = ["JwtVerifier", "fetch_text", "issue_token"]
