"""Admission and the cache of answers, as callers of a running server see them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_status import rpc_status

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2
from convlens.v1.explanation_pb2_grpc import ExplanationServiceStub
from convlens.v1.image_pb2 import Image
from tests.conftest import classification, running_server
from tests.e2e.test_operations import samples


def failure_of(error: BaseException) -> Failure:
    status = rpc_status.from_call(cast(Any, error))
    failure = Failure.from_status(status) if status else None
    assert failure is not None, error
    return failure


@pytest.fixture(scope="module")
def image(pictures: list[Path]) -> Image:
    return Image(encoded=pictures[0].read_bytes())


def sweep(image: Image, stride: int = 1) -> explanation_pb2.ExplainRequest:
    occlusion = methods.Occlusion(window=8, stride=stride)
    method = methods.ExplanationMethod(occlusion=occlusion)
    return explanation_pb2.ExplainRequest(images=[image], methods=[method])


def test_work_beyond_the_budget_is_refused_and_the_inference_pool_goes_on(image: Image) -> None:
    with running_server(analysis_budget=1000) as server, server.channel() as channel:
        stub: Any = ExplanationServiceStub(channel)
        # Some 14 600 windows: more than the budget, and taken while nothing else is under way.
        long = stub.Explain.future(sweep(image), timeout=60)
        while not samples(server)['convlens_inflight_cost{"pool": "analysis"}']:
            assert not long.done()
        saliency = sweep(image)
        saliency.methods[0].saliency.SetInParent()
        refused: Failure | None = None
        while refused is None:
            assert not long.done()
            try:
                stub.Explain(saliency, timeout=30)
            except grpc.RpcError as error:
                refused = failure_of(error)
        assert reason_name(refused.reason) == "OVERLOADED"
        assert refused.retry_after is not None and refused.retry_after > 0
        assert "passes under way of at most 1000" in str(refused)
        assert classification(channel).Classify(pb.ClassifyRequest(images=[image]), timeout=30)
        long.cancel()
        retried = 0
        while retried < 100:
            try:
                assert stub.Explain(saliency, timeout=30).results
                break
            except grpc.RpcError:
                retried += 1
                threading.Event().wait(0.05)
        assert retried < 100, "what was cancelled makes room"


def test_a_priority_is_one_of_two(image: Image) -> None:
    with running_server() as server, server.channel() as channel:
        stub, request = classification(channel), pb.ClassifyRequest(images=[image])
        for word in ("interactive", "batch"):
            assert stub.Classify(request, metadata=(("x-convlens-priority", word),)).results
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request, metadata=(("x-convlens-priority", "high"),))
    failure = failure_of(caught.value)
    assert reason_name(failure.reason) == "INVALID_REQUEST"
    assert "is 'high'; must be interactive or batch" in str(failure)


def test_the_same_question_is_answered_from_the_cache(pictures: list[Path], image: Image) -> None:
    with running_server(cache_bytes=2**20) as server, server.channel() as channel:
        stub = classification(channel)
        request = pb.ClassifyRequest(images=[image], top_k=3)
        first = stub.Classify(request)
        with ThreadPoolExecutor(8) as executor:
            again = list(executor.map(lambda _: stub.Classify(request), range(8)))
        assert again == [first] * 8
        other = stub.Classify(pb.ClassifyRequest(images=[image], top_k=2))
        assert len(other.results[0].classification.classes) == 2
        bad = pb.ClassifyRequest(images=[Image(encoded=b"no picture")])
        for _ in range(2):
            assert stub.Classify(bad).results[0].HasField("error")
        streamed = pb.ClassifyStreamRequest(id=1, request=request)
        [response] = list(stub.ClassifyStream(iter([streamed])))
        assert response.response == first
        seen = samples(server)
    outcomes = {
        word: seen.get(f'convlens_cache_lookups_total{{"outcome": "{word}"}}', 0.0)
        for word in ("hit", "miss", "shared")
    }
    assert outcomes == {"hit": 9, "miss": 4, "shared": 0}
