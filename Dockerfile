# One small image for every part of the system: an agent, a system of the sandbox, the one-time set-up.
#
#   docker build -t farandole .
#   docker run --rm farandole topics validate
#
# It holds Python, the locked packages and the project. What builds it (pip, a compiler if a package needs one) stays
# behind in the first stage, and so does the embedded Kafka: containers are given a broker.
#
# Build arguments: PYTHON_IMAGE, a Debian or Ubuntu with Python 3.11 or newer and pip; PIP_INDEX_URL, where packages come
# from if not from PyPI. The oldest builders will do: nothing here needs BuildKit.

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL=
# pip installs into the virtual environment from outside, so the environment holds the locked packages and nothing else.
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.lock /build/
RUN python3 -m pip --python /opt/venv/bin/python3 install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps -r /build/requirements.lock
# The project is used in place, not installed: an edit rebuilds the layers from here on, in seconds.
COPY events.py topics.yaml /app/
COPY agents /app/agents
COPY farandole /app/farandole
COPY flows /app/flows
COPY schemas /app/schemas
COPY web /app/web
RUN python3 -m compileall -q /app \
    && printf '%s\n' '#!/opt/venv/bin/python3' 'from farandole.cli.main import main' 'main()' > /opt/venv/bin/farandole \
    && chmod 755 /opt/venv/bin/farandole

FROM ${PYTHON_IMAGE}
# A number, so that Kubernetes' runAsNonRoot can see that it is not root. Volumes of the sandbox begin as this directory.
RUN useradd --uid 10001 --no-log-init --home-dir /var/lib/farandole --shell /usr/sbin/nologin farandole \
    && install -d -o 10001 -g 10001 /var/lib/farandole /var/lib/farandole/sandbox
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FARANDOLE_PROJECT=/app \
    FARANDOLE_HOME=/var/lib/farandole
# What a worker writes: the lock that holds its name, and Faust's data directory, made where it starts. Both may be lost.
WORKDIR /var/lib/farandole
USER 10001:10001
EXPOSE 6066
# 200 when the worker owns its partitions and handles messages, 503 until then.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/health', timeout=3)"]
# Without a shell in between: SIGTERM reaches Python, and the worker hands over.
ENTRYPOINT ["farandole"]
CMD ["--help"]
