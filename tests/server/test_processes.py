"""Several server processes on one port: shared calls, shared metrics, restarts, one end."""

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict

from convlens.server.engine import EngineError
from convlens.server.metrics.shared import SharedMetrics
from convlens.server.processes.reserve import reserve
from convlens.server.processes.supervisor import Supervisor
from convlens.server.settings import Address, SettingsError, load_settings
from convlens.server.triton.home import Folder
from tests.collector import collecting, told
from tests.server.processes import Holding, children, event, serving, started

REQUESTS = "convlens_requests_total"


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def triton() -> AsyncGenerator[Holding]:
    fake = Holding()
    async with fake.serve():
        yield fake


def counted(file: Path) -> float:
    """The calls that one process counted."""
    values: Any = MmapedDict.read_all_values_from_file(str(file))
    return sum(value for key, value, *_ in values if json.loads(key)[1] == REQUESTS)


async def test_calls_are_shared_and_counted_though_a_process_dies(
    triton: Holding, tmp_path: Path
) -> None:
    async with started(triton, tmp_path) as process:
        running = await serving(process)
        before = running.pids()
        for _ in range(3):
            await asyncio.gather(*(running.classify() for _ in range(20)))
        assert (await running.samples())[REQUESTS] == 60
        shares = {file.name: counted(file) for file in tmp_path.glob("*/metrics/counter_*.db")}
        assert shares.keys() == {f"counter_{pid}.db" for pid in before}
        assert min(shares.values()) > 0 and sum(shares.values()) == 60

        os.kill(min(before), signal.SIGKILL)
        await until(lambda: len(running.pids() - {min(before)}) == 2)
        await asyncio.gather(*(running.classify() for _ in range(20)))
        found = await running.samples()
        assert found[REQUESTS] == found["convlens_request_seconds_count"] == 80
        assert found["convlens_process_restarts_total"] == 1
        assert found["convlens_processes"] == 2
        # The largest of those that run, and their sum.
        assert found["convlens_build"] == 1

        # What was accepted is answered, by whichever process has it.
        triton.free.clear()
        calls = [asyncio.create_task(running.classify()) for _ in range(8)]
        async with asyncio.timeout(10):
            while (await running.samples()).get("convlens_active_calls") != 8:
                await asyncio.sleep(0.02)
        process.terminate()
        await event(process, "draining")
        triton.free.set()
        await asyncio.gather(*calls)
        assert await process.wait() == 0
    assert list(tmp_path.iterdir()) == []
    await until(lambda: not any(psutil.pid_exists(pid) for pid in before))


async def test_a_second_signal_ends_all_at_once(triton: Holding, tmp_path: Path) -> None:
    triton.free.clear()
    async with started(triton, tmp_path) as process:
        running = await serving(process)
        pids = running.pids()
        call = asyncio.create_task(running.classify())
        await until(lambda: any("Classify" in each for each in triton.asked))
        process.terminate()
        await event(process, "draining")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 1
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert list(tmp_path.iterdir()) == []
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_each_process_tells_of_its_own_calls(triton: Holding, tmp_path: Path) -> None:
    with collecting() as collector:
        async with started(triton, tmp_path, "--traces", collector.url) as process:
            running = await serving(process)
            for _ in range(3):
                await asyncio.gather(*(running.classify() for _ in range(20)))
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
        calls = [span for span in collector.spans if not span.parent_span_id]
        assert len(calls) == len({span.trace_id for span in calls}) == 60
        # Who told of them, each under a name of its own.
        names = {
            told(each.resource)["service.instance.id"]
            for request in collector.requests
            for each in request.resource_spans
        }
        assert len(names) == 2


async def test_no_process_outlives_its_parent(triton: Holding, tmp_path: Path) -> None:
    async with started(triton, tmp_path) as process:
        await until(lambda: children(process.pid))
        pids = children(process.pid)
        process.kill()
        await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_what_keeps_a_process_from_serving_is_said_once(
    triton: Holding, tmp_path: Path
) -> None:
    triton.restricted = True
    async with started(triton, tmp_path) as process:
        _, error = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 1
    lines = error.decode().splitlines()
    [said] = [line for line in lines if line.startswith("convlens-server: ")]
    assert "give the KEY" in said
    assert list(tmp_path.iterdir()) == []


@asynccontextmanager
async def supervised(triton: Holding) -> AsyncGenerator[Supervisor]:
    """Who looks after processes in front of a Triton, of which none is started yet."""
    folder = Folder()
    flags = ["--engine", "triton", "--triton-url", triton.address, "--listen", "127.0.0.1:0"]
    settings, _ = load_settings([*flags, "--metrics-listen", "off"])
    supervisor = Supervisor(settings, folder)
    try:
        yield supervisor
    finally:
        await supervisor.end()
        folder.clear()


def refused(*_: object, **__: object) -> Any:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


async def test_a_process_that_cannot_be_started_now_is_started_later(
    triton: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused_twice(*_: object, **__: object) -> Any:
        left.pop()
        refused()

    left, others = [1, 2], children(os.getpid())
    async with supervised(triton) as supervisor:
        assert await supervisor.start(0)
        with monkeypatch.context() as scarce:
            scarce.setattr("asyncio.create_subprocess_exec", refused_twice)
            [process] = children(os.getpid()) - others
            os.kill(process, signal.SIGKILL)
            await until(lambda: not left)
        await until(lambda: children(os.getpid()) - {process, *others})
        assert "Resource temporarily unavailable" in supervisor.trouble
        assert await supervisor.end()


async def test_what_keeps_one_process_from_serving_is_not_forgotten_for_another(
    triton: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(triton) as supervisor:
        with monkeypatch.context() as scarce:
            scarce.setattr("asyncio.create_subprocess_exec", refused)
            assert not await supervisor.start(0)
        assert await supervisor.start(1)
        assert "Resource temporarily unavailable" in supervisor.trouble


async def test_a_process_whose_metrics_cannot_be_merged_is_started_again(
    triton: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    others = children(os.getpid())
    async with supervised(triton) as supervisor:
        assert await supervisor.start(0)
        monkeypatch.setattr(SharedMetrics, "forget", full)
        [process] = children(os.getpid()) - others
        os.kill(process, signal.SIGKILL)
        await until(lambda: children(os.getpid()) - {process, *others})
        assert await supervisor.end()


def test_a_port_is_not_shared_with_strangers() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Address(host="127.0.0.1", port=other.getsockname()[1])
        with pytest.raises(EngineError, match=f"cannot listen on {taken}: it is taken"):
            reserve(taken)
    address, held = reserve(Address(host="127.0.0.1", port=0))
    with held, pytest.raises(ConnectionRefusedError):
        # Who only keeps the port gets no connections.
        socket.create_connection((address.host, address.port))


@pytest.mark.parametrize("engine", ["embedded", "triton-local"])
def test_only_processes_that_share_their_networks(engine: str) -> None:
    with pytest.raises(SettingsError, match=f"under {engine} each process would have networks"):
        load_settings(["--engine", engine, "--processes", "2"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--health-listen", "127.0.0.1:50051"], "health_listen: is .*, as listen is"),
        (["--metrics-listen", "127.0.0.1:50051"], "metrics_listen: is .*, as listen is"),
        (["--health-listen", "0.0.0.0:50051"], "health_listen: is 0.*, and listen 127.0.0.1:50051"),
        (["--health-listen", "[::]:50051"], "health_listen: is .*, and listen 127.0.0.1:50051"),
        (["--health-listen", "localhost:50051"], "health_listen: is .*, and listen 127"),
        (["--health-listen", "127.0.0.1:0", "--processes", "2"], "health_listen: must have a port"),
    ],
)
def test_no_port_has_two_uses(flags: list[str], words: str) -> None:
    known = ["--engine", "triton", "--listen", "127.0.0.1:50051", *flags]
    with pytest.raises(SettingsError, match=words):
        load_settings(known)


def test_two_addresses_of_a_machine_may_have_one_port() -> None:
    for other in ("10.0.0.5:50051", "[::1]:50051"):
        settings, _ = load_settings(["--listen", "127.0.0.1:50051", "--health-listen", other])
        assert settings.health_listen == other


def test_each_process_has_its_share() -> None:
    settings, _ = load_settings(["--engine", "triton", "--processes", "4"])
    assert [settings.of_one_process(total) for total in (100, 4, 1)] == [25, 1, 1]
