"""The fake server, as users meet it."""

import pytest

from convlens.client import Client, ConvLensError, InvalidRequest, Overloaded, Unavailable
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb


def test_it_answers_without_being_told_anything():
    with FakeServer() as server, Client(server.address) as client:
        assert client.classify(b"x").top.label == "cat"
        assert len(client.classify(b"x", top_k=1).classes) == 1
        assert client.network(client.networks()[0].name).labels == ("cat", "dog")
        assert [r.top.label for r in client.classify_stream([b"x", b"y"])] == ["cat", "cat"]
        with pytest.raises(InvalidRequest):
            client.classify(b"")


def test_answers_may_be_messages_errors_or_functions():
    score = pb.ClassScore(label="newt")
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
        client.classify(b"x", top_k=3, timeout=5)
        client.health()
        list(client.classify_stream([b"y"]))
    assert [request.rpc for request in server.requests] == ["Classify", "Check", "ClassifyStream"]
    first, _, last = server.requests
    assert first.message == pb.ClassifyRequest(images=first.message.images, top_k=3)
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
