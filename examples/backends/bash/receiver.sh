#!/usr/bin/env bash
# Receive client events from the gateway: verify each webhook request and answer it. Needs socat, openssl and jq.
# socat listens and runs this script once for each connection, with the request on stdin and the response on stdout.
set -euo pipefail
export LC_ALL=C # lengths are bytes

tolerance_seconds=300
max_body_bytes=1048576

usage() {
    echo 'environment: WEBHOOK_SECRET (whsec_…); optional PORT' >&2
    exit 2
}

hmac_sha256() { # of stdin, by RFC 2104: `openssl dgst -hmac SECRET` would show the secret in `ps`
    local secret i byte inner='' outer=''
    secret=$(printf %s "${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
    for ((i = 0; i < 128; i += 2)); do
        byte=$((0x0${secret:i:2}))
        printf -v inner '%s\\x%02x' "$inner" $((byte ^ 0x36))
        printf -v outer '%s\\x%02x' "$outer" $((byte ^ 0x5c))
    done
    { printf %b "$outer"; { printf %b "$inner"; cat; } | openssl dgst -sha256 -binary; } |
        openssl dgst -sha256 -binary
}

sha256() { openssl dgst -sha256 -r | cut -d ' ' -f 1; }

is_authentic() { # one of the signatures fits the raw body, and the time is within the tolerance
    [[ $id && $timestamp =~ ^[1-9][0-9]{0,11}$ ]] || return 1
    local age=$(($(date +%s) - timestamp)) salt expected each found=1
    ((age <= tolerance_seconds && age >= -tolerance_seconds)) || return 1
    expected=v1,$({ printf %s "$id.$timestamp."; cat "$work/body"; } | hmac_sha256 | base64)
    # The shell compares no text in constant time. It compares hashes with a random salt, whose time shows nothing.
    salt=$(openssl rand -hex 16)
    expected=$(printf %s "$salt$expected" | sha256)
    set -f
    for each in $signatures; do
        [[ $(printf %s "$salt$each" | sha256) != "$expected" ]] || found=0
    done
    return $found
}

answer_to() { # status and JSON answer for the event in $work/body; your application begins here
    local type event notification user
    type=$(jq -er '.type | strings' "$work/body" 2>/dev/null) && [[ $type ]] || { invalid; return; }
    if [[ $type != client.event ]]; then
        echo 204 # webhook.test, and types of later releases
        return
    fi
    event=$(jq -er '.data.event | strings' "$work/body" 2>/dev/null) || { invalid; return; }
    if [[ $event != notification:mark_read ]]; then
        echo 404 '{"code":"unknown_event","message":"This backend does not know the event."}'
        return
    fi
    # As JSON text, so that it can be copied into the answer as it is.
    notification=$(jq -ec '.data.args[0].notificationId | strings' "$work/body" 2>/dev/null) || { invalid; return; }
    if [[ $notification == '"x'* ]]; then
        echo 403 '{"code":"not_yours","message":"This notification belongs to another user."}'
        return
    fi
    user=$(jq -c .data.connection.user "$work/body")
    echo "read ${notification//\"/} by ${user//\"/}" >&2
    printf '200 {"emit":[{"event":"notification:read","data":{"notificationId":%s,"success":true}}],"ack":{"success":true}}\n' \
        "$notification"
}

invalid() { echo 400 '{"code":"invalid_payload","message":"The event has a wrong form."}'; }

answer_once() { # a repeat of an id gets the first answer; a file is removed when a repeat would fail the test of its time
    find "$ANSWERS" -type f -mmin +$((2 * tolerance_seconds / 60)) -delete 2>/dev/null || true
    local file
    file=$ANSWERS/$(printf %s "$id" | sha256)
    (
        flock 9 # a repeat waits for the first answer
        [[ -s $file ]] || answer_to >"$file"
        cat "$file"
    ) 9>>"$file"
}

respond() { # status [JSON]
    printf 'HTTP/1.1 %s %s\r\nConnection: close\r\n' "$1" "$1"
    if (($# > 1)); then
        printf 'Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "${#2}" "$2"
    else
        printf '\r\n'
    fi
}

receive() {
    local line name value length='' id='' timestamp='' signatures='' status answer
    work=$(mktemp -d)
    trap 'rm -r "$work"' EXIT
    IFS= read -r -t 30 line || return # the request line
    while IFS= read -r -t 30 -n 8192 line && line=${line%$'\r'} && [[ $line ]]; do
        name=${line%%:*} value=${line#*:} value=${value# }
        case ${name,,} in
            content-length) length=$value ;;
            webhook-id) id=$value ;;
            webhook-timestamp) timestamp=$value ;;
            webhook-signature) signatures=$value ;;
        esac
    done
    if ! [[ $length =~ ^(0|[1-9][0-9]{0,6})$ ]] || ((length > max_body_bytes)); then
        respond 413 '{"message":"The body is too large, or its length is unknown."}'
        return
    fi
    timeout 30 head -c "$length" >"$work/body" # a file, because a variable of the shell holds no zero byte
    if ! is_authentic; then
        respond 401 '{"code":"bad_signature","message":"The signature is not valid."}'
        return
    fi
    read -r status answer < <(answer_once)
    respond "$status" ${answer:+"$answer"}
}

[[ ${WEBHOOK_SECRET-} == whsec_?* ]] || usage
if [[ ${1-} == receive ]]; then
    receive
    exit
fi
ANSWERS=$(mktemp -d)
export ANSWERS SCRIPT=${BASH_SOURCE[0]}
trap 'rm -r "$ANSWERS"' EXIT
trap 'kill "$socat"' INT TERM
socat "TCP-LISTEN:${PORT:-3000},bind=127.0.0.1,reuseaddr,fork,max-children=64" 'SYSTEM:bash "$SCRIPT" receive' &
socat=$!
wait "$socat" || true
