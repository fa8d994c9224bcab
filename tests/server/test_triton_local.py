"""triton-local: the bundled Triton starts, answers, logs into our log, and leaves nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from structlog.testing import capture_logs
from tritonclient.grpc import service_pb2, service_pb2_grpc

from convlens.server.engine import EngineError
from convlens.server.triton import bundle, forward, local, proc, shm
from convlens.server.triton.home import MARK, PREFIX, clear_homes_of_the_dead
from convlens.server.triton.local import LocalTriton

messages: Any = service_pb2

CONFIG = """
backend: "python"
max_batch_size: 16
input [ { name: "request" data_type: TYPE_UINT8 dims: [-1] allow_ragged_batch: true } ]
output [ { name: "response" data_type: TYPE_UINT8 dims: [-1] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { max_queue_delay_microseconds: 500 }
"""

BACKWARDS = """
import os, site
site.addsitedir(os.environ["CONVLENS_SITE"])
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        print("printed by the model", flush=True)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "request")
        turned = torch.from_dlpack(tensor.to_dlpack()).flip(1).contiguous()
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("response", turned)])
"""

# Answers nothing, and starts a process of its own, as loaders of data and compilers do.
PARENT = """
import subprocess

class TritonPythonModel:
    def initialize(self, args):
        subprocess.Popen(["sleep", "600"])

    def execute(self, requests):
        return []
"""

OWNER = """
import asyncio, sys
from pathlib import Path
from convlens.server.logs import configure_logs
from convlens.server.triton.local import LocalTriton

async def main():
    configure_logs("json", "debug")
    triton = LocalTriton(Path(sys.argv[1]))
    await triton.start()
    print(triton.pid, triton._home.path, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def repository_of(root: Path, **models: str) -> Path:
    for name, source in models.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(f'name: "{name}"{CONFIG}')
        (root / name / "1/model.py").write_text(source)
    return root


@dataclass
class Running:
    triton: LocalTriton
    log: list[MutableMapping[str, Any]]
    stub: Any

    def logged(self, text: str) -> MutableMapping[str, Any]:
        return next(line for line in self.log if text in line["event"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One Triton for every test that leaves it as it was."""
    triton = LocalTriton(repository_of(tmp_path_factory.mktemp("models"), backwards=BACKWARDS))
    with capture_logs() as log:
        seconds = timed(triton.start)
        print(f"\nTriton with a torch model: started in {seconds:.1f} s", end="")
        with grpc.insecure_channel(triton.address) as channel:
            yield Running(triton, log, service_pb2_grpc.GRPCInferenceServiceStub(channel))
        print(f"\nTriton with a torch model: stopped in {timed(triton.stop):.1f} s")


def timed(step: Callable[[], Any]) -> float:
    started = time.monotonic()
    asyncio.run(step())
    return time.monotonic() - started


def infer(stub: Any, payload: bytes) -> bytes:
    request = messages.ModelInferRequest(model_name="backwards", raw_input_contents=[payload])
    request.inputs.add(name="request", datatype="UINT8", shape=[1, len(payload)])
    return stub.ModelInfer(request, timeout=30).raw_output_contents[0]


def home_of(triton: LocalTriton) -> Path:
    assert triton._home
    return triton._home.path


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def alive(home: Path) -> list[int]:
    return proc.with_variable(MARK, str(home))


def gone(pid: int) -> bool:
    """Whether a process has ended; whoever inherited it may not have looked at its end yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


def test_it_answers(running: Running) -> None:
    assert infer(running.stub, b"lens") == b"snel"
    assert infer(running.stub, bytes(range(256)) * 300) == bytes(range(255, -1, -1)) * 300


def test_it_listens_on_loopback_only_and_without_http(running: Running) -> None:
    connections = psutil.Process(running.triton.pid).net_connections("inet")
    listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    ports = {f"127.0.0.1:{address.port}" for address in listening}
    assert ports == {running.triton.address, running.triton.metrics_address}


def test_its_metrics_are_shown(running: Running) -> None:
    with urllib.request.urlopen(f"http://{running.triton.metrics_address}/metrics") as page:
        assert b'nv_inference_count{model="backwards"' in page.read()


def test_models_are_loaded_only_by_who_knows_the_secret(running: Running) -> None:
    request = messages.RepositoryModelLoadRequest(model_name="backwards")
    with pytest.raises(grpc.RpcError) as refused:
        running.stub.RepositoryModelLoad(request)
    assert "restricted" in str(refused.value)
    running.stub.RepositoryModelLoad(request, metadata=running.triton.headers)


def test_its_log_is_in_ours(running: Running) -> None:
    loaded = running.logged("successfully loaded 'backwards'")
    assert loaded["log_level"] == "info"
    assert loaded["source"].startswith("model_lifecycle.cc:")
    assert running.logged("printed by the model")["log_level"] == "info"


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (
            'I1121 08:43:56.189884 7503 model_lifecycle.cc:472] "loading: m:1"',
            ("info", "model_lifecycle.cc:472", "loading: m:1"),
        ),
        (
            'E1121 08:47:23.594655 1 backend_model.cc:692] "ERROR: no\\n\\nAt:\\n  model.py(1)\\n"',
            ("error", "backend_model.cc:692", "ERROR: no\n\nAt:\n  model.py(1)\n"),
        ),
        (
            "E1121 08:47:03.651253563   11873 chttp2_server.cc:1060]      UNKNOWN:No address",
            ("error", "chttp2_server.cc:1060", "UNKNOWN:No address"),
        ),
        (
            "I1121 08:44:33.819061 8869 pb_stub.cc:2145]  Non-graceful termination detected.",
            ("info", "pb_stub.cc:2145", "Non-graceful termination detected."),
        ),
        ("I1121 08:43:59.010078 7503 server.cc:604] ", ("info", "server.cc:604", "")),
        ("W1121 08:43:59.010078 7503 a.cc:1] odd", ("warning", "a.cc:1", "odd")),
        ("error: creating server: no", ("error", "", "error: creating server: no")),
        ("| Model | Version |", ("debug", "", "| Model | Version |")),
        ("printed", ("info", "", "printed")),
    ],
)
def test_lines_of_its_log(line: str, parsed: tuple[str, str, str]) -> None:
    assert forward.parse(line) == parsed


@pytest.mark.parametrize(
    "line",
    [
        'E1121 08:43:56.188660 7503 server.cc:241] "CudaDriverHelper has not been initialized."',
        "Error: Failed to initialize NVML",
        'W1121 08:43:59.010838 7503 metrics.cc:798] "DCGM unable to start: initialization error"',
        'W1121 08:43:56.188489 7503 p.cc:273] "Unable to allocate pinned system memory, no"',
    ],
)
def test_that_there_is_no_gpu_is_no_news(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forward, "GPU_DRIVER", tmp_path / "nvidiactl")
    assert forward.parse(line)[0] == "debug"
    forward.GPU_DRIVER.touch()
    assert forward.parse(line)[0] != "debug"


def test_a_log_of_ours_that_fails_does_not_stop_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "log", None)
    reading, writing = os.pipe()
    forwarder = forward.LogForwarder(os.fdopen(reading, "rb"))
    with os.fdopen(writing, "wb") as pipe:
        for number in range(20_000):
            pipe.write(b"line %d of more than fits into a pipe\n" % number)
    forwarder.join(30)
    assert forwarder.reasons().endswith("line 19999 of more than fits into a pipe")


def orphans() -> set[Path]:
    """Regions that nobody maps; other tests run Tritons at the same time."""
    found = set(shm.SHM.glob(shm.PATTERN))
    # A region is made, and only then mapped.
    time.sleep(shm.YOUNGEST_SECONDS)
    return {region for region in found if region.exists()} - shm.regions_of(proc.processes())


def test_a_model_that_does_not_load_is_the_reason(tmp_path: Path) -> None:
    broken = "import nothing_like_it\n" + PARENT
    triton = LocalTriton(repository_of(tmp_path / "models", good=PARENT, broken=broken))
    regions = orphans()
    kept: list[Path] = []
    with pytest.raises(EngineError) as caught:
        asyncio.run(_start_and_keep_home(triton, kept))
    assert "failed to load 'broken'" in str(caught.value)
    assert "No module named 'nothing_like_it'" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 1 + forward.KEPT_LINES
    (home,) = kept
    assert (alive(home), home.exists(), triton.pid) == ([], False, 0)
    assert orphans() <= regions


async def _start_and_keep_home(triton: LocalTriton, kept: list[Path]) -> None:
    starting = asyncio.create_task(triton.start())
    while not triton.pid:
        await asyncio.sleep(0)
    kept.append(home_of(triton))
    await starting


def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    slow = "import time; time.sleep(600)\n" + PARENT
    triton = LocalTriton(repository_of(tmp_path / "models", slow=slow))

    async def give_up() -> Path:
        starting = asyncio.create_task(triton.start())
        while not triton.pid or len(alive(home_of(triton))) < 2:
            await asyncio.sleep(0.05)
        home = home_of(triton)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return home

    home = asyncio.run(give_up())
    assert (alive(home), home.exists()) == ([], False)


def test_a_start_that_takes_too_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_SECONDS", 1.0)
    slow = "import time; time.sleep(600)\n" + PARENT
    with pytest.raises(EngineError, match="not ready after 1 s"):
        asyncio.run(LocalTriton(repository_of(tmp_path, slow=slow)).start())


def test_a_repository_without_models(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no model in"):
        asyncio.run(LocalTriton(tmp_path).start())


def test_ports_that_were_taken_meanwhile_are_replaced(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = port_of(running.triton.address), port_of(running.triton.metrics_address)
    free, free_too = local.free_ports()
    offers = iter([(taken[0], free), (free, taken[1]), (free, free_too)])
    monkeypatch.setattr(local, "free_ports", lambda: next(offers))
    triton = LocalTriton(repository_of(tmp_path / "models", parent=PARENT))
    asyncio.run(triton.start())
    assert (port_of(triton.address), port_of(triton.metrics_address)) == (free, free_too)
    asyncio.run(triton.stop())


def test_it_says_when_every_port_is_taken(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = port_of(running.triton.address), port_of(running.triton.metrics_address)
    monkeypatch.setattr(local, "free_ports", lambda: taken)
    monkeypatch.setattr(local, "PORT_TRIES", 1)
    with pytest.raises(EngineError, match="no free port"):
        asyncio.run(LocalTriton(repository_of(tmp_path, parent=PARENT)).start())
    assert infer(running.stub, b"lens") == b"snel"


def test_stop_leaves_nothing_even_of_a_dead_stub(tmp_path: Path) -> None:
    triton = LocalTriton(repository_of(tmp_path / "models", one=PARENT, two=PARENT))
    started = timed(triton.start)
    home, pid = home_of(triton), triton.pid
    processes = alive(home)
    regions = shm.regions_of(processes)
    # Triton, two stubs, and what each of them started.
    assert (len(processes), len(regions)) == (5, 2)
    os.kill(next(child.pid for child in psutil.Process(pid).children()), signal.SIGKILL)
    stopped = timed(triton.stop)
    print(f"\nTriton with two bare models: started in {started:.1f} s, stopped in {stopped:.1f} s")
    assert all(map(gone, processes))
    assert not home.exists()
    assert not any(region.exists() for region in regions)
    asyncio.run(triton.stop())


def test_it_ends_with_a_killed_owner(tmp_path: Path) -> None:
    models = repository_of(tmp_path / "models", parent=PARENT)
    with (tmp_path / "log").open("wb") as log:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(models)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert owner.stdout
    with owner, owner.stdout:
        words = owner.stdout.readline().split()
        pid, home = int(words[0]), Path(words[1])
        stubs = psutil.Process(pid).children()
        regions = shm.regions_of([pid])
        clear_homes_of_the_dead()
        assert alive(home), "the owner still lives"
        owner.kill()
    seconds = wait_until(lambda: all(map(gone, [pid, *(stub.pid for stub in stubs)])), 10)
    print(f"\nowner killed: Triton and its stub gone after {seconds:.1f} s")
    assert len(stubs) == len(regions) == 1
    # What a next start does first; only now the process that the model started is found.
    assert len(alive(home)) == 1
    clear_homes_of_the_dead()
    shm.remove_stale_regions()
    assert (alive(home), home.exists()) == ([], False)
    assert not any(region.exists() for region in regions)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert any("loaded 'parent'" in each["event"] for each in lines if each["logger"] == "triton")


def test_nothing_is_written_into_the_wheel(running: Running) -> None:
    # Not the stub, nor what the stub's Python compiles: both are in our own directory.
    backend = bundle.find_bundle().backend
    assert {file.name for file in backend.iterdir()} == {
        "libtriton_python.so",
        "triton_python_backend_utils.py",
    }
    home = home_of(running.triton)
    assert home.name.startswith(PREFIX)
    assert (home / "backends/python" / bundle.STUB).is_symlink()
