"""What those are told who ask, or watch, which services can answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.server.health import Health

Status = health_pb2.HealthCheckResponse


@pytest.fixture
async def told() -> AsyncIterator[tuple[Health, Any]]:
    """A health service that knows `a`, and its stub."""
    health = Health()
    health.set("a", True)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health, health_pb2_grpc.HealthStub(channel)
    await server.stop(0)


async def following(call: Any) -> int:
    async with asyncio.timeout(5):
        return (await call.read()).status


def watch(stub: Any, service: str = "a") -> Any:
    return stub.Watch(health_pb2.HealthCheckRequest(service=service))


async def test_the_status_of_a_service_is_told(told: tuple[Health, Any]) -> None:
    health, stub = told
    request = health_pb2.HealthCheckRequest(service="a")
    assert (await stub.Check(request)).status == Status.SERVING
    health.set("a", False)
    assert (await stub.Check(request)).status == Status.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="b"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "There is no service 'b' here; ask for one of: a."


async def test_whoever_asks_for_a_long_name_is_told_as_much_as_an_error_can_hold(
    told: tuple[Health, Any],
) -> None:
    _, stub = told
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="é" * 20_000))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_on_when_another_has_left(told: tuple[Health, Any]) -> None:
    health, stub = told
    leaving, staying = watch(stub), watch(stub)
    assert await following(leaving) == await following(staying) == Status.SERVING
    leaving.cancel()
    await asyncio.sleep(0.1)
    health.set("a", False)
    assert await following(staying) == Status.NOT_SERVING


async def test_a_service_may_come_later(told: tuple[Health, Any]) -> None:
    health, stub = told
    watching = watch(stub, "later")
    assert await following(watching) == Status.SERVICE_UNKNOWN
    health.set("later", True)
    assert await following(watching) == Status.SERVING


async def test_who_does_not_read_holds_up_nobody_and_learns_the_last_status(
    told: tuple[Health, Any],
) -> None:
    health, stub = told
    slow, other = watch(stub), watch(stub)
    assert await following(other) == Status.SERVING
    for well in (False, True) * 50:
        health.set("a", well)
        assert await following(other) == (Status.SERVING if well else Status.NOT_SERVING)
    health.set("a", False)
    async with asyncio.timeout(5):
        while await following(slow) != Status.NOT_SERVING:
            pass
        assert await following(other) == Status.NOT_SERVING
