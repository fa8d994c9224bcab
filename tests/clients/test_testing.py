"""The fake server, as users meet it."""

from typing import Any

import pytest

from convlens.client import (
    Client,
    ConvLensError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unavailable,
)
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import receipt_pb2, target_pb2


def test_it_answers_without_being_told_anything():
    with FakeServer() as server, Client(server.address) as client:
        assert client.classify(b"x").top.label == "cat"
        assert len(client.classify(b"x", top_k=1).classes) == 1
        assert client.network(client.networks()[0].name).labels == ("cat", "dog")
        assert [r.top.label for r in client.classify_stream([b"x", b"y"])] == ["cat", "cat"]
        with pytest.raises(InvalidRequest):
            client.classify(b"")


def test_answers_may_be_messages_errors_or_functions():
    score = target_pb2.ClassScore(label="newt")
    result = pb.ClassifyResult(classification=pb.Classification(classes=[score]))
    message = pb.ClassifyResponse(results=[result])
    full = Failure(ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=9, pool="p", limit=1)
    with FakeServer({"Classify": message}) as server, Client(server.address, timeout=5) as client:
        assert client.classify(b"x").top.label == "newt"
        server.answers["Classify"] = full
        with pytest.raises(Overloaded):
            client.classify(b"x")
        server.answers["Classify"] = lambda request: message
        assert client.classify(b"x").top.label == "newt"


def test_a_failure_of_classify_is_the_answer_to_one_request_of_a_stream():
    full = Failure(ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=9, pool="p", limit=1)
    with FakeServer({"Classify": full}) as server, Client(server.address) as client:
        results = list(client.classify_stream([b"x", b"y"], on_error="return"))
    assert [type(r) for r in results] == [Overloaded, Overloaded]


def test_requests_are_written_down():
    with FakeServer() as server, Client(server.address) as client:
        client.classify(b"x", top_k=2, timeout=5)
        client.health()
        list(client.classify_stream([b"y"]))
    assert [request.rpc for request in server.requests] == ["Classify", "Check", "ClassifyStream"]
    first, _, last = server.requests
    assert first.message == pb.ClassifyRequest(images=first.message.images, top_k=2)
    assert first.timeout == pytest.approx(5, abs=1)
    assert last.message.request.images[0].encoded == b"y"


def test_servers_do_not_meet():
    with FakeServer() as one, FakeServer() as other:
        assert one.address != other.address
        Client(one.address).health()
        assert (len(one.requests), len(other.requests)) == (1, 0)


def test_it_is_gone_afterwards():
    with FakeServer() as server:
        pass
    with Client(server.address, max_attempts=1) as client, pytest.raises(Unavailable):
        client.health()


def test_what_is_not_built_is_unimplemented():
    with FakeServer() as server, Client(server.address) as client:
        del server.answers["ListNetworks"]
        with pytest.raises(ConvLensError, match="ListNetworks is not available"):
            client.networks()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"top_k": 0}, "top_k is 0; must be at least 1"),
        ({"top_k": 3}, "top_k is 3; must be at most 2, the classes of this network"),
        ({"network": "x" * 201}, "network is 201 long"),
        ({"images": [b"x"] * 65}, "images has 65 entries; must have at most 64"),
        ({"images": []}, "images has 0 entries; must have at least 1"),
    ],
)
def test_it_refuses_what_breaks_the_contract(asked, said):
    request: dict[str, Any] = {"images": b"x", **asked}
    with FakeServer() as server, Client(server.address) as client:
        with pytest.raises(InvalidRequest, match=said) as caught:
            client.classify(**request)
        [violation] = caught.value.violations
        assert said.startswith(violation.field)
        if "images" not in asked:
            [error] = client.classify_stream([b"x"], on_error="return", **asked)
            assert isinstance(error, InvalidRequest) and said in error.message
    assert server.requests[0].rpc == "Classify"


def test_it_has_one_network():
    with FakeServer() as server, Client(server.address) as client:
        for name in ("", "pets", "pets@1"):
            assert client.classify(b"x", network=name).receipt.network == "pets"
        for name in ("zoo", "pets@2"):
            with pytest.raises(NotFound, match="served are: pets@1"):
                client.classify(b"x", network=name)


def test_an_answer_to_an_rpc_that_there_is_not():
    with pytest.raises(ValueError, match=r"No RPC is called 'Clasify'; there are: .*Classify, Cla"):
        FakeServer({"Clasify": pb.ClassifyResponse()})


def test_a_message_answers_each_request_of_a_stream():
    result = pb.ClassifyResult(
        classification=pb.Classification(classes=[target_pb2.ClassScore(label="a")])
    )
    message = pb.ClassifyStreamResponse(id=99, response=pb.ClassifyResponse(results=[result]))
    with FakeServer({"ClassifyStream": message}) as server, Client(server.address) as client:
        assert [r.top.label for r in client.classify_stream([b"x", b"y"])] == ["a", "a"]
    assert message.id == 99


def test_an_answer_gets_a_receipt_unless_it_has_one():
    result = pb.ClassifyResult(classification=pb.Classification())
    bare = pb.ClassifyResponse(results=[result])
    own = pb.ClassifyResponse(results=[result], receipt=receipt_pb2.Receipt(network="mine"))
    with FakeServer({"Classify": bare}) as server, Client(server.address) as client:
        receipt = client.classify(b"x").receipt
        assert (receipt.network, receipt.precision, receipt.threads) == ("pets", "float32", 1)
        assert receipt.request_digest != client.classify(b"y").receipt.request_digest
        server.answers["Classify"] = own
        receipt = client.classify(b"x").receipt
        assert (receipt.network, receipt.threads) == ("mine", 0)
    assert not bare.HasField("receipt")
