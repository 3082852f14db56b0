# One image for both roles: `docker run IMAGE web`, `docker run IMAGE worker`. Any Debian image with Python 3.11 or newer
# and pip will do as its base. Nothing here needs BuildKit.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install --yes --no-install-recommends tini
WORKDIR /build
# Wheels only: what would need a compiler stops the build here, with the name of the package.
COPY requirements/run.txt requirements/run.txt
RUN python -m venv --without-pip /opt/arqive \
    && pip --python /opt/arqive/bin/python install --only-binary :all: --require-hashes -r requirements/run.txt \
    && cp /usr/bin/tini /opt/arqive/bin/tini
COPY requirements/build.txt requirements/build.txt
RUN pip install --only-binary :all: --require-hashes -r requirements/build.txt
# Installed beside the environment, so that the code is a small layer of its own on top of the dependencies.
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY settings settings
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/arqive/bin/python install --no-deps --no-index --root /installed wheels/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Arqive" \
      org.opencontainers.image.description="A durable task queue that runs as a service." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# A number, so that a cluster can see that it is not root. Code of one's own goes to /tasks.
RUN groupadd --gid 10001 arqive \
    && useradd --uid 10001 --gid arqive --no-create-home --shell /usr/sbin/nologin arqive \
    && mkdir /tasks
COPY --from=build /opt/arqive /opt/arqive
COPY --from=build /installed/ /
# The root filesystem may be read-only: the bytecode is there already, and nothing else is written.
# PIP_PYTHON: the environment has no pip of its own; the base's installs into it when somebody builds on this image.
ENV PATH=/opt/arqive/bin:$PATH \
    PIP_PYTHON=/opt/arqive/bin/python \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/tasks \
    PYTHONUNBUFFERED=1
WORKDIR /tasks
USER 10001:10001
EXPOSE 4000
STOPSIGNAL SIGTERM
# It asks PORT, then HEALTH_PORT: whichever of the two is served says which role this is.
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=3 CMD ["arqive", "check"]
# tini hands signals on and takes in the processes that handlers leave behind; -s: also where it is not PID 1.
ENTRYPOINT ["tini", "-s", "--", "arqive"]
