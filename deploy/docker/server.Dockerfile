# syntax=docker/dockerfile:1
# The server, for Tritons elsewhere: no torch in it. Built from the root of the repository:
#   docker build -f deploy/docker/server.Dockerfile -t convlens/server:0.1.0 .
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
    --package convlens-server --extra triton --extra otel

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convlens-server" \
      org.opencontainers.image.description="The gRPC gateway of ConvLens" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/convlens /opt/convlens
COPY deploy/docker/healthcheck.py /opt/healthcheck.py
ENV PATH=/opt/convlens/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    CONVLENS_ENGINE=triton \
    CONVLENS_LISTEN=0.0.0.0:50051 \
    CONVLENS_HEALTH_LISTEN=0.0.0.0:50052 \
    CONVLENS_METRICS_LISTEN=0.0.0.0:9464 \
    CONVLENS_LOG_FORMAT=json
USER 65532:65532
EXPOSE 50051 50052 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s \
    CMD ["python", "/opt/healthcheck.py", "127.0.0.1:50052", "readiness"]
ENTRYPOINT ["convlens-server"]
