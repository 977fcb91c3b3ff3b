#!/usr/bin/env bash
# Push one event through the gateway with a signed HTTP request. Needs curl and openssl.
set -euo pipefail

usage() {
    cat >&2 <<'END'
usage: push.sh (user <id> | room <room> | broadcast) <event> <json>
environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY
END
    exit 2
}

percent_encode() { # one path segment: every byte but A-Z a-z 0-9 - . _ ~ becomes %XX
    local LC_ALL=C i char
    for ((i = 0; i < ${#1}; i++)); do
        char=${1:i:1}
        case $char in
            [A-Za-z0-9._~-]) printf %s "$char" ;;
            *) printf '%%%02X' $(($(printf %d "'$char") & 255)) ;;
        esac
    done
}

json_string() { # for text without control characters
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

sha256() { openssl dgst -sha256 -r | cut -d ' ' -f 1; }

hmac_sha256() { # of stdin, by RFC 2104: `openssl dgst -hmac SECRET` would show the secret in `ps`
    local secret i byte inner='' outer=''
    secret=$(printf %s "$GATEWAY_SECRET" | od -An -v -tx1 | tr -d ' \n')
    if ((${#secret} > 128)); then secret=$(printf %s "$GATEWAY_SECRET" | sha256); fi
    for ((i = 0; i < 128; i += 2)); do
        byte=$((0x0${secret:i:2}))
        printf -v inner '%s\\x%02x' "$inner" $((byte ^ 0x36))
        printf -v outer '%s\\x%02x' "$outer" $((byte ^ 0x5c))
    done
    { printf %b "$outer"; { printf %b "$inner"; cat; } | openssl dgst -sha256 -binary; } | sha256
}

[[ -n ${GATEWAY_KEY-} && -n ${GATEWAY_SECRET-} ]] || usage
case ${1-}/$# in
    user/4) path=/emit/user/$(percent_encode "$2") room='' ;;
    room/4) path=/emit/room room="\"room\":$(json_string "$2")," ;;
    broadcast/3) path=/broadcast room='' ;;
    *) usage ;;
esac
body="{$room\"event\":$(json_string "${*: -2:1}"),\"data\":${*: -1}}" # the data exactly as written
base=${GATEWAY_URL:-http://127.0.0.1:8080} base=${base%/}
target=${base#*://} target=${target#"${target%%/*}"}$path   # what curl writes into the request line
idempotency_key=${IDEMPOTENCY_KEY:-$(openssl rand -hex 16)} # one for all attempts: delivered once
answer=$(mktemp -d)
trap 'rm -r "$answer"' EXIT

for tries_left in 2 1 0; do
    timestamp=$(date +%s) nonce=$(openssl rand -hex 16) # new for every attempt
    : | tee "$answer/headers" >"$answer/body"
    signature=v1=$(printf 'v1\n%s\nPOST\n%s\n%s\n%s\n%s\n%s' "$GATEWAY_KEY" "$target" "$timestamp" \
        "$nonce" "$idempotency_key" "$(printf %s "$body" | sha256)" | hmac_sha256)
    status=$(printf %s "$body" | curl -sS --globoff --path-as-is --max-time 10 --data-binary @- \
        -H 'Content-Type: application/json' -H "Idempotency-Key: $idempotency_key" \
        -H "X-Gateway-Key: $GATEWAY_KEY" -H "X-Gateway-Timestamp: $timestamp" \
        -H "X-Gateway-Nonce: $nonce" -H "X-Gateway-Signature: $signature" \
        -D "$answer/headers" -o "$answer/body" -w '%{http_code}' "$base$path") || true
    if [[ $status != 503 && $status != 000 || $tries_left == 0 ]]; then break; fi
    retry_after=$(tr -d '\r' <"$answer/headers" | sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\)$/\1/p')
    sleep "${retry_after:-1}"
done

if [[ $status == 2?? ]]; then
    cat "$answer/body"
    echo
else
    { printf '%s ' "$((10#${status:-0}))"; cat "$answer/body"; echo; } >&2
    exit 1
fi
