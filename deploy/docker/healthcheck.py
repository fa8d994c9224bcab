"""Asks an address for its health over gRPC; the exit code is 0 where it is SERVING.

python healthcheck.py HOST:PORT [SERVICE]
"""

import sys
from typing import Any

import grpc

SECONDS = 4.0
# HealthCheckResponse{status: SERVING}
SERVING = b"\x08\x01"


def is_serving(address: str, service: str = "") -> bool:
    """Whether grpc.health.v1 at `address` says SERVING; a name longer than 127 bytes is none."""
    name = service.encode()
    # HealthCheckRequest{service}: this image may have no generated code for it.
    request = bytes((0x0A, len(name))) + name
    opened: Any = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
    with opened as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return bool(check(request, timeout=SECONDS) == SERVING)
        except grpc.RpcError:
            return False


if __name__ == "__main__":
    sys.exit(0 if is_serving(*sys.argv[1:]) else 1)
