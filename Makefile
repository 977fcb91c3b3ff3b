# Everything is installed into .venv and ignored folders; `make clean` removes it.

VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check
LOCKED := $(PIP) --require-hashes
NODE   := $(PY) tools/node.py

RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev
BUNDLE  := gateway/socketio_server/static/version.txt
JS      := tests/support/js/node_modules/.package-lock.json
FRONT   := tests/integration/frontend/node_modules/.package-lock.json
PEER    := benchmarks/node_modules/.package-lock.json

# Extra arguments: make test ARGS="-k signing -x", GATEWAY_PORT=9000 make run
ARGS  ?=
IMAGE ?= sio-gateway
IMAGE_OPTIONS ?=

export REDOCLY_TELEMETRY := off
export REDOCLY_SUPPRESS_UPDATE_NOTICE := true
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX

.DELETE_ON_ERROR:
.PHONY: help install install-dev run test test-all test-examples test-proxies test-redis soak bench chart check format lock image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(RUNTIME) $(BUNDLE) ## Set everything up in .venv (needs Python 3.11 or newer)

install-dev: install $(DEV) $(JS) $(FRONT) ## The same, with the packages that tests and checks need

run: install ## Start the gateway for development; it prints how to connect and push
	@exec $(VENV)/bin/sio-gateway serve --dev --secrets-file .env $(ARGS)

# What belongs before every commit, slow files first. CONTRIBUTING.md says what is added here; test-all runs the rest.
CORE := $(addprefix tests/e2e/test_,drain.py recovery.py cli.py replicas.py rejected_connections.py delivery.py) \
        tests/unit tests/contract tests/conformance tests/repo

# Files are spread over two workers for each core; each worker starts gateways and Redis servers of its own.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

# Deployments of three replicas whose events have to arrive in time: beside all other tests some of them did not.
APART := tests/integration/presence

test: install-dev ## Run the tests that belong before every commit
	$(PY) -m pytest $(PARALLEL) $(CORE) $(ARGS)

test-all: install-dev ## Run all other tests; needs the Debian packages that .ci/run installs
	$(PY) -m pytest $(PARALLEL) -m "not image and not proxies" $(addprefix --ignore=,$(CORE) $(APART)) \
	    tests/e2e tests/load tests/integration $(ARGS)
	$(PY) -m pytest $(PARALLEL) $(APART) $(ARGS)
	$(MAKE) --no-print-directory test-redis test-proxies

test-examples: install-dev ## Run the programs of every language in examples/backends
	$(PY) -m pytest $(PARALLEL) tests/integration/examples $(ARGS)

test-proxies: install-dev ## Restart replicas behind Debian's nginx one by one with 2 000 clients connected
	$(PY) -m pytest tests/load/rolling $(ARGS)

# Without tests/e2e/test_faults.py, which passes there too: it would take two minutes more.
ON_REDIS := tests/contract tests/integration/redis_state tests/integration/doctor \
            tests/e2e/test_replicas.py tests/e2e/test_three_replicas.py tests/e2e/test_redis_failing.py

test-redis: install-dev ## Repeat the tests of the shared state on the redis-server of the system, or on REDIS_SERVER
	REDIS_SERVER="$${REDIS_SERVER:-redis-server}" $(PY) -m pytest $(PARALLEL) $(ON_REDIS) $(ARGS)

soak: install-dev ## Break connections and replicas under load; writes docs/explanation/soak.md (ARGS=--attacks: guarantees.md)
	$(PY) -m tests.load.soak $(ARGS)

bench: install $(DEV) $(PEER) ## Measure the gateway beside Socket.IO on this machine; writes docs/reference/benchmarks.md
	$(PY) -m benchmarks $(ARGS)

chart: install-dev ## Lint the Helm chart, render every value set and validate it against the Kubernetes schemas
	$(PY) -m tools.chart
	$(PY) -m pytest -q tests/integration/chart $(ARGS)

check: install-dev chart ## Style, types, directions of imports, dependencies, OpenAPI, Helm chart
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m deptry .
	$(NODE) tests/support/js/node_modules/@redocly/cli/bin/cli.js lint openapi.yaml

format: install-dev ## Put the code into the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Pins stay as they are unless they must change; UPGRADE=1 takes the newest that fit. What package.json asks for is exact
# and changed there.
COMPILE := $(PY) -m uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
NPMLOCK := npm $(if $(UPGRADE),update,install) --package-lock-only --loglevel=error

lock: install ## Pin the dependencies anew after a change (UPGRADE=1: to the newest releases)
	$(LOCKED) -r requirements/lock.txt
	$(COMPILE) -o requirements/runtime.txt pyproject.toml
	$(COMPILE) --extra otel -c requirements/runtime.txt -o requirements/otel.txt pyproject.toml
	$(COMPILE) -o requirements/client.txt requirements/client.in
	$(COMPILE) -o requirements/build.txt requirements/build.in
	$(COMPILE) -o requirements/lock.txt requirements/lock.in
	$(COMPILE) -o requirements/dev.txt requirements/dev.in
	$(NODE) $(NPMLOCK) --prefix client
	$(NODE) $(NPMLOCK) --prefix tests/support/js
	$(NODE) $(NPMLOCK) --prefix tests/integration/frontend
	$(NODE) $(NPMLOCK) --prefix benchmarks

# IMAGE_OPTIONS are options of the build, such as a certificate to mount (see the head of the Dockerfile).
image: install-dev ## Build the container image with podman, run it as the chart deploys it, check that it serves and drains
	@command -v podman >/dev/null || { echo "podman is needed: Debian's packages podman, runc and catatonit." >&2; exit 1; }
	BUILDAH_FORMAT=docker podman build $(IMAGE_OPTIONS) -t $(IMAGE) . # podman's own format would drop the HEALTHCHECK
	IMAGE=$(IMAGE) $(PY) -m pytest tests/integration/image $(ARGS)

clean: ## Remove everything that these targets created
	rm -rf $(VENV) build dist client/node_modules tests/support/js/node_modules tests/integration/frontend/node_modules benchmarks/node_modules gateway/socketio_server/static
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- prerequisites of the targets above ----------------------------------------------------------------------------

# An environment that no longer starts, or is too old, is created again.
$(RUNTIME): requirements/runtime.txt requirements/client.txt requirements/build.txt pyproject.toml
	@set -e; \
	if ! $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    python=$$(PYTHON="$(PYTHON)" sh tools/find_python.sh); \
	    echo "Setting up $(VENV) with $$("$$python" --version) …"; \
	    "$$python" -m venv --clear $(VENV); \
	fi
	@$(LOCKED) -r requirements/runtime.txt -r requirements/client.txt -r requirements/build.txt
	@$(PY) tools/fetch_client.py
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt
	@echo "Installing what tests and checks need …"
	@$(LOCKED) -r requirements/dev.txt
	@touch $@

$(BUNDLE): $(RUNTIME) client/package-lock.json tools/fetch_client.py tools/node.py
	@$(PY) tools/fetch_client.py
	@touch $@

$(JS): $(RUNTIME) tests/support/js/package.json tests/support/js/package-lock.json
	@$(NODE) npm ci --prefix tests/support/js --ignore-scripts --loglevel=error >/dev/null
	@touch $@

$(FRONT): $(RUNTIME) tests/integration/frontend/package.json tests/integration/frontend/package-lock.json
	@$(NODE) npm ci --prefix tests/integration/frontend --ignore-scripts --loglevel=error >/dev/null
	@touch $@

$(PEER): $(RUNTIME) benchmarks/package.json benchmarks/package-lock.json
	@$(NODE) npm ci --prefix benchmarks --ignore-scripts --loglevel=error >/dev/null
	@touch $@
