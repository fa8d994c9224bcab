"""The health check of the images, against a real health service."""

import asyncio
import subprocess
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc

from convlens.server.health import Health
from tests.deploy.manifests import ROOT

CHECK = ROOT / "deploy/docker/healthcheck.py"


def code(*arguments: str) -> int:
    return subprocess.run([sys.executable, str(CHECK), *arguments], timeout=30).returncode


async def test_it_ends_with_0_where_the_service_is_well() -> None:
    health = Health()
    for name, is_well in (("", True), ("readiness", True), ("analysis", False)):
        health.set(name, is_well)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    asked = [(address,), (address, "readiness"), (address, "analysis"), (address, "unknown")]
    codes = [await asyncio.to_thread(code, *each) for each in asked]
    await server.stop(0)
    assert codes == [0, 0, 1, 1]
    assert await asyncio.to_thread(code, address) == 1
