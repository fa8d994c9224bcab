# syntax=docker/dockerfile:1
# Triton with the workers, for CPUs and NVIDIA's GPUs: torch brings CUDA, the node its driver. Built
# from the root of the repository:
#   docker build -f deploy/docker/worker.Dockerfile -t convlens/worker:0.1.0 .
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
# The wheel's Triton, with the stub of this Python where Triton looks for it.
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install --no-deps --target /wheel nvidia-pytriton==0.7.0 \
    && mkdir -p /opt/tritonserver/backends \
    && cp -r /wheel/pytriton/tritonserver/bin /opt/tritonserver/bin \
    && cp -r /wheel/pytriton/tritonserver/backends/python /opt/tritonserver/backends/python \
    && cp /wheel/pytriton/tritonserver/python_backend_stubs/3.11/* \
       /opt/tritonserver/backends/python/ \
    && cp -r /wheel/nvidia_pytriton.libs /opt/tritonserver/lib \
    && chmod -R a+rX /opt/tritonserver
COPY . .
# Versions are those of pyproject.toml: its bounds, and nothing newer than its date.
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv sync --no-dev --no-editable --package convlens-workers

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convlens-worker" \
      org.opencontainers.image.description="Triton with the worker pools of ConvLens" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# libpython is what the stub loads; without it Triton hangs at the start and says nothing.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpython3.11 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/tritonserver /opt/tritonserver
COPY --from=build /opt/convlens /opt/convlens
COPY deploy/docker/healthcheck.py /opt/healthcheck.py
COPY --chmod=755 deploy/docker/serve-triton /usr/local/bin/serve-triton
ENV PATH=/opt/convlens/bin:/opt/tritonserver/bin:/usr/local/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/opt/tritonserver/lib \
    CONVLENS_SITE=/opt/convlens/lib/python3.11/site-packages \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 65532:65532
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python", "/opt/healthcheck.py", "127.0.0.1:8001"]
ENTRYPOINT ["serve-triton"]
