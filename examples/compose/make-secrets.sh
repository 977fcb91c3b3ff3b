#!/bin/sh
# Creates the secrets of compose.yaml, once: the secret for tokens, the key of a backend, and the password of Redis.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then
    echo "secrets/ exists already; remove it to create new ones." >&2
    exit 1
fi

random() {
    openssl rand -hex 32
}

password=$(random)
jwt_secret=$(random)
ingest_secret=$(random)
# Containers read the files as other users than you. Other users of this machine cannot, since they cannot enter the folder.
umask 022
mkdir -m 700 secrets
echo "$jwt_secret" >secrets/jwt_secret
echo "backend:$ingest_secret" >secrets/ingest_keys
echo "redis://:$password@redis:6379/0" >secrets/redis_url
echo "requirepass $password" >secrets/redis_password
echo "Created secrets/. Sign your tokens with secrets/jwt_secret; sign pushes as 'backend' with the rest of secrets/ingest_keys."
