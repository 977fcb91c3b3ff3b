# `client` fetches the stock browser client, `wheel` packs the gateway, `packages` installs it and what it needs into
# one environment. The last stage takes that environment and nothing else.
#
# Nothing here names an index, a proxy or a certificate. Where there are any, they are mounted for the build alone:
#   podman build --format docker -v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro .
# and in the same way an /etc/pip.conf and a /root/.npmrc. Without `--format docker` podman drops the HEALTHCHECK.

FROM python:3.13-slim AS tooled
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build


FROM tooled AS client
COPY requirements/client.txt requirements/client.txt
RUN python -m venv /opt/client \
    && /opt/client/bin/pip install --require-hashes --only-binary :all: --no-compile -r requirements/client.txt
COPY client/package.json client/package-lock.json client/
COPY tools/fetch_client.py tools/node.py tools/
RUN /opt/client/bin/python tools/fetch_client.py


FROM tooled AS wheel
COPY requirements/build.txt requirements/build.txt
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: --no-compile -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY ingest_api ingest_api
COPY --from=client /build/gateway/socketio_server/static gateway/socketio_server/static
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist .


FROM tooled AS packages
# Without pip of its own; the one of the base image installs into it and stays behind.
RUN python -m venv --without-pip /opt/sio-gateway
# `otel` is `runtime` and the packages that export traces where the OTEL_ variables ask for it (docs/reference/logs.md).
ARG REQUIREMENTS=otel
COPY requirements/${REQUIREMENTS}.txt requirements/
# Only wheels: a package that would need a compiler is refused at once. Bytecode is made here because the running
# user can write none; it is not checked against its source, so a builder that rewrites file times does not spoil it.
RUN python -m pip --python /opt/sio-gateway/bin/python install \
        --require-hashes --only-binary :all: --no-compile -r requirements/${REQUIREMENTS}.txt \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sio-gateway/lib
COPY --from=wheel /build/dist dist
RUN python -m pip --python /opt/sio-gateway/bin/python install --no-deps --no-index --no-compile dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/sio-gateway/lib/python3.*/site-packages/gateway /opt/sio-gateway/lib/python3.*/site-packages/ingest_api


FROM python:3.13-slim
# The base image ships pip, and its standard library without bytecode: every start would compile it anew.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=packages /opt/sio-gateway /opt/sio-gateway
ENV PATH=/opt/sio-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks where the settings say that health is answered, so that it needs no change when a port does.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os; \
        from gateway.settings import load_settings; \
        settings = load_settings(os.environ, require_keys=False); \
        door = http.client.HTTPConnection(settings.host, settings.ingest_port or settings.port, timeout=4); \
        door.request('GET', '/health/live'); \
        raise SystemExit(door.getresponse().status != 200)"]
ENTRYPOINT ["sio-gateway"]
CMD ["serve"]
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sio-gateway" \
      org.opencontainers.image.description="Signed HTTP pushes from any backend to stock socket.io-client frontends" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
