"""What operators and strangers use: health, reflection, metrics, logs, settings, a clean end."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families

from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import RunningServer, classification, running_server, server_process

SERVED = ["convlens.v1.ClassificationService", "convlens.v1.NetworkService"]
Status = health_pb2.HealthCheckResponse


def test_health_by_service(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", *SERVED):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == Status.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="convlens.v1.Nonsense"))
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_a_stranger_classifies_with_reflection_alone(
    channel: grpc.Channel, pictures: list[Path]
) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(SERVED) < set(database.get_services())
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("convlens.v1.ClassificationService")
    method = service.methods_by_name["Classify"]
    request: Any = GetMessageClass(method.input_type)()
    request.images.add().encoded = pictures[0].read_bytes()
    call = channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    response: Any = call(request, timeout=30)
    best = response.results[0].classification.classes[0]
    assert best.label == pictures[0].name.partition("-")[0]


def test_reflection_can_be_switched_off() -> None:
    with running_server(reflection=False) as server, server.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        with pytest.raises(grpc.RpcError) as caught:
            database.get_services()
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def samples(server: RunningServer) -> dict[str, float]:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as page:
        text = page.read().decode()
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(server: RunningServer, channel: grpc.Channel, pictures):
    before = samples(server)
    request = ClassifyRequest(images=[Image(encoded=path.read_bytes()) for path in pictures])
    classification(channel).Classify(request, timeout=30)
    with pytest.raises(grpc.RpcError):
        classification(channel).Classify(ClassifyRequest(), timeout=30)

    def key(name: str, **labels: str) -> str:
        return name + json.dumps(labels, sort_keys=True)

    rpc = "ClassificationService/Classify"
    asked = {"rpc": rpc, "method": "", "network": "shapes@1"}
    seconds = key("convlens_request_seconds_count", **{**asked, "network": ""})
    # A refusal is counted a moment after it was told.
    deadline = time.monotonic() + 10
    while (after := samples(server)).get(seconds, 0) < before.get(seconds, 0) + 1:
        assert time.monotonic() < deadline
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown[key("convlens_requests_total", **asked, code="OK", reason="")] == 1
    # It was refused before it was known which network it meant.
    refused = {**asked, "network": "", "code": "INVALID_ARGUMENT", "reason": "INVALID_REQUEST"}
    assert grown[key("convlens_requests_total", **refused)] == 1
    assert grown[key("convlens_request_seconds_count", **asked)] == 1
    for stage in ("admit", "queue", "decode", "compute", "encode"):
        stages = key("convlens_stage_seconds_count", stage=stage, pool="inference")
        assert grown[stages] == 1
    admit, compute = (
        grown[key("convlens_stage_seconds_sum", stage=stage, pool="inference")]
        for stage in ("admit", "compute")
    )
    assert 0 < admit < compute
    assert grown[key("convlens_batch_images_sum")] == len(pictures)
    assert after[key("convlens_active_calls", rpc=rpc)] == 0
    if server.engine_name == "embedded":
        queue = {"network": "shapes@1", "pool": "inference", "triton": ""}
        assert after[key("convlens_queue_length", **queue)] == 0
        assert after[key("convlens_queue_age_seconds", **queue)] == 0


# The end of a terminal is one like another.
@pytest.mark.parametrize(
    "ending", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGHUP]
)
def test_the_log_has_a_line_for_each_call(pictures: list[Path], ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "convlens.server", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "127.0.0.1:0", "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            started = json.loads(process.stderr.readline())
            with grpc.insecure_channel(started["address"]) as channel:
                image = Image(encoded=pictures[0].read_bytes())
                classification(channel).Classify(
                    ClassifyRequest(images=[image]), metadata=[("x-request-id", "abc")]
                )
            process.send_signal(ending)
            lines = [json.loads(line) for line in process.stderr]
        finally:
            process.kill()
    assert process.returncode == 0
    assert started["event"] == "serving"
    call = next(line for line in lines if line["event"] == "call")
    assert (call["request_id"], call["code"]) == ("abc", "OK")
    assert call["rpc"] == "ClassificationService/Classify"
    assert (call["network"], call["passes"]) == ("shapes@1", 1)
    stages = [call[stage] for stage in ("admit", "queue", "decode", "compute", "encode")]
    assert min(stages) >= 0 and call["compute"] > 0
    assert sum(stages) <= call["milliseconds"] + 1
    assert [line["event"] for line in lines][-2:] == ["draining", "stopped"]


@pytest.mark.parametrize(
    "engine", ["embedded", pytest.param("triton-local", marks=pytest.mark.slow)]
)
def test_start_to_first_answer_and_stop(
    engine: str, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    request = ClassifyRequest(images=[Image(encoded=pictures[0].read_bytes())])
    began = time.monotonic()
    with server_process("--engine", engine, "--drain-delay", "0.5") as (process, address):
        with grpc.insecure_channel(address) as channel:
            stub: Any = classification(channel)
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert stub.Classify(request, timeout=30).results
            answered = time.monotonic()
            process.send_signal(signal.SIGTERM)
            asked = health_pb2.HealthCheckRequest()
            while health.Check(asked).status == Status.SERVING:
                time.sleep(0.01)
            # Whoever sends calls has not noticed yet.
            assert stub.Classify(request, timeout=30).results
        assert process.wait(30) == 0
        stopped = time.monotonic()
    with capsys.disabled():
        start, stop = answered - began, stopped - answered
        print(f"\n{engine}: first answer after {start:.1f} s, stopped after {stop:.1f} s")
    assert start < 30
    assert stop < 10


def run_server(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    free = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    return subprocess.run(
        [sys.executable, "-m", "convlens.server", *free, *flags],
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_address_that_is_taken(server: RunningServer) -> None:
    result = run_server("--listen", server.address)
    assert result.returncode == 1
    assert f"cannot listen on {server.address}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text("networks: [{name: alexnet}]")
    result = run_server("--networks", str(file))
    assert result.returncode == 1
    assert "no bundled network alexnet; there are: shapes" in result.stderr
    assert "Traceback" not in result.stderr
