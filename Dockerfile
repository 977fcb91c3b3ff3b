# `client` fetches the stock browser client, `wheel` builds the gateway, `packages` installs it and its dependencies into
# one environment. The last stage copies that environment and nothing else.
#
# This file names no index, proxy or certificate. If your network needs them, mount them for the build alone:
#   podman build --format docker -v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro .
# and in the same way an /etc/pip.conf and a /root/.npmrc. Without `--format docker` podman drops the HEALTHCHECK.

FROM python:3.13-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build


FROM base AS client
COPY requirements/client.txt requirements/client.txt
RUN python -m venv /opt/client \
    && /opt/client/bin/pip install --require-hashes --only-binary :all: --no-compile -r requirements/client.txt
COPY client/package.json client/package-lock.json client/
COPY tools/fetch_client.py tools/node.py tools/
RUN /opt/client/bin/python tools/fetch_client.py


FROM base AS wheel
COPY requirements/build.txt requirements/build.txt
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: --no-compile -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY tools/build_hook.py tools/
COPY gateway gateway
COPY ingest_api ingest_api
COPY --from=client /build/gateway/socketio_server/static gateway/socketio_server/static
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist .


FROM base AS packages
# Without a pip of its own: the pip of the base image installs into it, and is not part of the result.
RUN python -m venv --without-pip /opt/sio-gateway
# `otel` is `runtime` and the packages that export traces if OTEL_ variables are set (docs/reference/logs.md).
ARG REQUIREMENTS=otel
COPY requirements/${REQUIREMENTS}.txt requirements/
# Only wheels: a package that would need a compiler is rejected at once. Bytecode is compiled here because the user of
# the container cannot write it. It is not compared with its source, so a builder that rewrites file times does not
# invalidate it.
RUN python -m pip --python /opt/sio-gateway/bin/python install \
        --require-hashes --only-binary :all: --no-compile -r requirements/${REQUIREMENTS}.txt \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sio-gateway/lib
COPY --from=wheel /build/dist dist
RUN python -m pip --python /opt/sio-gateway/bin/python install --no-deps --no-index --no-compile dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/sio-gateway/lib/python3.*/site-packages/gateway /opt/sio-gateway/lib/python3.*/site-packages/ingest_api


FROM python:3.13-slim
# The base image has pip, which is not needed, and a standard library without bytecode, which each start would compile.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=packages /opt/sio-gateway /opt/sio-gateway
ENV PATH=/opt/sio-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can verify that the user is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# Reads the port of health from the settings, so it needs no change when a port changes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os; \
        from gateway.settings import load_settings; \
        settings = load_settings(os.environ, require_keys=False); \
        connection = http.client.HTTPConnection(settings.host, settings.ingest_port or settings.port, timeout=4); \
        connection.request('GET', '/health/live'); \
        raise SystemExit(connection.getresponse().status != 200)"]
ENTRYPOINT ["sio-gateway"]
CMD ["serve"]
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sio-gateway" \
      org.opencontainers.image.description="Signed HTTP pushes from any backend to stock socket.io-client frontends" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
