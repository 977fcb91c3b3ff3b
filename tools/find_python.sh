#!/bin/sh
# Print a Python that can run the gateway: $PYTHON if set, else the first suitable one on the path.
set -eu

probe='import sys; sys.version_info >= (3, 11) or sys.exit("too old"); import ensurepip, venv'

if [ -n "${PYTHON:-}" ]; then
    if ! command -v "$PYTHON" >/dev/null 2>&1; then
        echo "PYTHON=$PYTHON: no such program." >&2
        exit 1
    fi
    if ! "$PYTHON" -c "$probe" >/dev/null 2>&1; then
        echo "PYTHON=$PYTHON is older than Python 3.11 or lacks the venv module." >&2
        exit 1
    fi
    echo "$PYTHON"
    exit 0
fi

without_venv=
for candidate in python3 python python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c "$probe" >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        without_venv="${without_venv:-$candidate}"
    fi
done

if [ -n "$without_venv" ]; then
    echo "$without_venv cannot create virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2
else
    echo "Python 3.11 or newer is not on the path: install it, or set its path with 'make PYTHON=/path/to/python'." >&2
fi
exit 1
