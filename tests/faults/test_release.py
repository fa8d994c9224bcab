"""What a failed call held is let go of at its end, not when Python next collects its garbage."""

import gc
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from convlens.v1.adversarial_pb2 import AttackRequest
from convlens.v1.attack_methods_pb2 import FGSM, AttackMethod
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from convlens.v1.explanation_methods_pb2 import ExplanationMethod, Saliency
from convlens.v1.explanation_pb2 import ExplainRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import RunningServer

CLASSIFY = "/convlens.v1.ClassificationService/Classify"
EXPLAIN = "/convlens.v1.ExplanationService/Explain"
ATTACK = "/convlens.v1.AdversarialService/Attack"
SIZE, CALLS = 2**20, 8
IMAGES = [Image(encoded=b"\xff" * SIZE)]
SALIENCY, FAST = ExplanationMethod(saliency=Saliency()), AttackMethod(fgsm=FGSM())

FAILED: dict[str, tuple[str, Message | bytes]] = {
    "no message": (CLASSIFY, b"\xff" * SIZE),
    "a wrong field": (CLASSIFY, ClassifyRequest(images=IMAGES, top_k=10**9)),
    "an unknown network": (CLASSIFY, ClassifyRequest(images=IMAGES, network="none")),
    "no pictures": (CLASSIFY, ClassifyRequest(images=IMAGES)),
    "nothing to explain": (EXPLAIN, ExplainRequest(images=IMAGES, methods=[SALIENCY])),
    "nothing to attack": (ATTACK, AttackRequest(images=IMAGES, method=FAST)),
    "a wrong stream": (
        f"{CLASSIFY}Stream",
        ClassifyStreamRequest(request=ClassifyRequest(images=IMAGES, top_k=10**9)),
    ),
    "an unknown service": (
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service="x" * SIZE),
    ),
}


@contextmanager
def no_garbage_collected() -> Generator[None]:
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_call_leaves_nothing_behind(
    servers: Callable[[str], RunningServer], name: str
) -> None:
    path, message = FAILED[name]
    body = message if isinstance(message, bytes) else message.SerializeToString()
    with servers("embedded").channel() as channel:

        def ask() -> None:
            try:
                if path.endswith("Stream"):
                    list(channel.stream_stream(path)(iter([body]), timeout=30))
                else:
                    channel.unary_unary(path)(body, timeout=30)
            except grpc.RpcError as error:
                assert error.code() is not grpc.StatusCode.INTERNAL, error.details()

        ask()
        with no_garbage_collected():
            for _ in range(CALLS):
                ask()
            assert tracemalloc.get_traced_memory()[0] < CALLS * SIZE / 2
