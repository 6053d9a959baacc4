# The two services, as two targets: master and aux. `docker-compose build` makes both.
#
# An image is safe on its own: it runs as nobody in particular and listens on loopback only. What opens it to a network is
# in docker-compose.yml.

FROM python:3.11-slim-bookworm AS dependencies
COPY requirements.txt /tmp/
RUN python -m venv --without-pip /opt/ringmaster \
    && pip --python /opt/ringmaster/bin/python install --disable-pip-version-check --no-cache-dir \
        --require-hashes --only-binary :all: --requirement /tmp/requirements.txt

# The hot modules as machine code (`make compiled`). Compiler and tools stay in this stage. Headers come with the official image; one
# without gets Debian's, of the same minor version.
FROM python:3.11-slim-bookworm AS compiled
RUN apt-get update -qq \
    && headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
    && if [ -f "$headers/Python.h" ]; then more=; else more=libpython3.11-dev; fi \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends gcc libc6-dev $more >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-compile.txt /tmp/
RUN python -m venv --without-pip /opt/compiler \
    && pip --python /opt/compiler/bin/python install --disable-pip-version-check --no-cache-dir \
        --require-hashes --only-binary :all: --requirement /tmp/requirements-compile.txt
WORKDIR /source
COPY pyproject.toml ./
COPY tooling/compile.py tooling/
COPY ringmaster ringmaster
COPY master master
COPY aux aux
RUN CPATH=/usr/include/python3.11 /opt/compiler/bin/python tooling/compile.py \
    && mkdir /shared && mv build/compiled/*.so /shared/

FROM python:3.11-slim-bookworm AS service
COPY --from=dependencies /opt/ringmaster /opt/ringmaster
# uvloop looks names up in half of these threads. Names of peers that are gone can take seconds each, and must not hold up
# those that are there.
ENV UV_THREADPOOL_SIZE=16 \
    PATH=/opt/ringmaster/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RINGMASTER_DATA_DIR=/data
WORKDIR /app
COPY --from=compiled /shared /app
COPY --from=compiled /source/build/compiled/ringmaster /app/ringmaster
# A named volume takes its owner and mode from the folder it is first mounted on.
RUN printf '#!/opt/ringmaster/bin/python\nfrom ringmaster.cli import main\n\nmain()\n' >/opt/ringmaster/bin/ringmaster \
    && chmod 755 /opt/ringmaster/bin/ringmaster \
    && mkdir -m 0700 /data /leases \
    && chown 10001:10001 /data /leases
# Without starting an interpreter: bash speaks TCP, and six containers are asked every few seconds.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["bash", "-c", "\
    exec 3<>/dev/tcp/127.0.0.1/$HEALTH_PORT \
    && printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3 \
    && read -r _ status _ <&3 && [ $status = 200 ]"]

FROM service AS master
COPY --from=compiled /source/build/compiled/master /app/master
RUN python -m compileall -q /app && chmod -R a+rX /app
ENV HEALTH_PORT=8001
USER 10001:10001
EXPOSE 8001
CMD ["python", "-m", "master"]

FROM service AS aux
COPY --from=compiled /source/build/compiled/aux /app/aux
RUN python -m compileall -q /app && chmod -R a+rX /app
ENV HEALTH_PORT=7501
USER 10001:10001
EXPOSE 7001 7501
CMD ["python", "-m", "aux"]
