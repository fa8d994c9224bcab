# syntax=docker/dockerfile:1
# The load generator, for a Job beside the servers. Built from the root of the repository:
#   docker build -f deploy/docker/loadtest.Dockerfile -t convlens/loadtest:0.1.0 .
# By its digest a base is pinned to the byte: --build-arg BASE=debian@sha256:… (deploy/README.md).
ARG BASE=debian:12.11-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/convlens \
    UV_PYTHON=/usr/bin/python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY . .
# Versions are those of pyproject.toml: its bounds, and nothing newer than its date.
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv sync --no-dev --no-editable \
    --package convlens-loadtest

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convlens-loadtest" \
      org.opencontainers.image.description="The load generator of ConvLens" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/convlens /opt/convlens
ENV PATH=/opt/convlens/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["convlens-loadtest"]
