#!/usr/bin/env bash
# Print a token for a user, which is valid for an hour: GATEWAY_JWT_SECRET=… bash/token.sh alice
set -euo pipefail

: "${GATEWAY_JWT_SECRET:?GATEWAY_JWT_SECRET is not set}"

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

user=${1//\\/\\\\}
now=$(date +%s)
payload=$(printf '{"sub":"%s","iat":%d,"exp":%d}' "${user//\"/\\\"}" "$now" $((now + 3600)))
text=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url).$(printf %s "$payload" | base64url)
# The secret in hexadecimal, so that it may contain any character.
secret=$(printf %s "$GATEWAY_JWT_SECRET" | od -An -v -tx1 | tr -d ' \n')
printf '%s.%s\n' "$text" "$(printf %s "$text" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -binary | base64url)"
