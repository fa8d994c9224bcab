"""Explanations as they are finished: events, order, ends."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convlens.client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    ExplainDone,
    ExplainItem,
    ExplainProgress,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    NotFound,
    Overloaded,
    Unavailable,
)
from convlens.client.methods import Saliency, SmoothGrad
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2 as pb
from tests.clients.streaming import check_cancelled_task, endless

STREAM = "explain_stream"
FULL = Failure(ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=0.01, pool="p", limit=1)
DONE = pb.ExplainStreamResponse(done=pb.ExplainDone())
PROGRESS = pb.ExplainStreamResponse(progress=pb.ExplainProgress(attributions=1))


def test_events(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    events = list(client.stream([b"x", b"y"], [Saliency(), SmoothGrad()], method=STREAM))
    *others, done = events
    items: list[Any] = [event for event in others if isinstance(event, ExplainItem)]
    assert [(item.image_index, item.attribution.name) for item in items] == [
        (0, "saliency"),
        (0, "smooth_grad"),
        (1, "saliency"),
        (1, "smooth_grad"),
    ]
    assert all(item.is_final and item.error is None for item in items)
    progress = [event for event in others if isinstance(event, ExplainProgress)]
    assert [(event.attributions_done, event.attributions) for event in progress] == [
        (n, 4) for n in range(4)
    ]
    assert progress[-1].cost.backward_passes < progress[-1].estimated_cost.backward_passes == 102
    assert isinstance(done, ExplainDone) and done.receipt.network == "pets"
    assert done.estimated_cost.forward_passes == 102


def test_a_stream_gives_the_maps_of_a_call(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    single = client.call("explain", b"x", Saliency(), targets=[0, 1])
    events = client.stream(b"x", Saliency(), targets=[0, 1], method=STREAM)
    streamed: list[Any] = [event.attribution for event in events if isinstance(event, ExplainItem)]
    for one, other in zip(single, streamed, strict=True):
        assert np.array_equal(one.map, other.map)
        assert other.receipt is None


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    list(client.stream(b"x", Saliency(), method=STREAM, network="pets", min_interval_ms=50))
    list(client.stream(b"x", Saliency(), method=STREAM, partial_items=True, timeout=9))
    first, second = server.requests
    assert first.rpc == "ExplainStream"
    assert first.message.min_interval_ms == 50 and not first.message.partial_items
    assert first.message.request.network == "pets"
    assert first.timeout is None
    assert second.message.partial_items and not second.message.HasField("min_interval_ms")
    assert second.timeout == pytest.approx(9, abs=1)


def test_maps_that_improve(connect: Any, server: FakeServer) -> None:
    asked = [Saliency(), SmoothGrad(samples=10)]
    events = connect(server.address).stream(b"x", asked, method=STREAM, partial_items=True)
    items: list[Any] = [event for event in events if isinstance(event, ExplainItem)]
    seen = [(item.attribution.name, item.is_final, item.attribution.samples) for item in items]
    assert seen == [("saliency", True, 1), ("smooth_grad", False, 5), ("smooth_grad", True, 10)]


def test_images_that_fail(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    images = [b"", b"x", "missing.png"]
    events = client.stream(images, Saliency(), method=STREAM, on_error="return")
    items: dict[int, Any] = {e.image_index: e for e in events if isinstance(e, ExplainItem)}
    assert isinstance(items[0].error, InvalidImage) and items[0].error.index == 0
    assert items[0].attribution is None
    assert items[1].attribution.map.shape == (32, 32)
    assert isinstance(items[2].error, ImageFileNotFound)
    with pytest.raises(InvalidImage, match="item 1"):
        list(client.stream([b"x", b""], Saliency(), method=STREAM))
    with pytest.raises(ImageFileNotFound):
        list(client.stream(["missing.png"], Saliency(), method=STREAM))


def test_an_error_of_all(connect: Any, server: FakeServer) -> None:
    with pytest.raises(NotFound, match="No network zoo"):
        list(connect(server.address).stream(b"x", Saliency(), method=STREAM, network="zoo"))


def test_planted_answers(connect: Any) -> None:
    with FakeServer({"Explain": FULL}) as server:
        with pytest.raises(Overloaded):
            list(connect(server.address, max_attempts=1).stream(b"x", Saliency(), method=STREAM))
        server.answers["ExplainStream"] = lambda _: iter([PROGRESS, DONE])
        events = list(connect(server.address).stream(b"x", Saliency(), method=STREAM))
    assert [type(event) for event in events] == [ExplainProgress, ExplainDone]


def test_a_full_server_is_asked_again_before_the_first_answer_only(connect: Any) -> None:
    calls: list[int] = []

    def answer(_: Any) -> Iterator[pb.ExplainStreamResponse]:
        calls.append(len(calls))
        if len(calls) in (1, 2):
            raise FULL
        yield PROGRESS
        if len(calls) == 4:
            raise FULL
        yield DONE

    with FakeServer({"ExplainStream": answer}) as server:
        client = connect(server.address)
        assert len(list(client.stream(b"x", Saliency(), method=STREAM))) == 2
        assert len(calls) == 3
        with pytest.raises(Overloaded):
            list(client.stream(b"x", Saliency(), method=STREAM))
    assert len(calls) == 4
    assert len({request.metadata["x-request-id"] for request in server.requests}) == 2


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([], "ended early; messages received: 0"),
        ([PROGRESS], "ended early; messages received: 1"),
        ([pb.ExplainStreamResponse()], "tells nothing"),
        ([pb.ExplainStreamResponse(item=pb.ExplainItem(image_index=1))], "an image that was not"),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, answers: list[Any], words: str) -> None:
    with (
        FakeServer({"ExplainStream": lambda _: iter(answers)}) as server,
        pytest.raises(Internal, match=words),
    ):
        list(connect(server.address).stream(b"x", Saliency(), method=STREAM))


def test_giving_up_cancels_the_call(connect: Any) -> None:
    ended = threading.Event()
    with FakeServer({"ExplainStream": endless(PROGRESS, ended)}) as server:
        client = connect(server.address)
        assert len(list(client.stream(b"x", Saliency(), method=STREAM, take=2))) == 2
        assert ended.wait(5)


def test_closing_the_client_ends_the_stream(connect: Any) -> None:
    ended = threading.Event()
    with FakeServer({"ExplainStream": endless(PROGRESS, ended)}) as server:
        client = connect(server.address)
        events = client.stream(b"x", Saliency(), method=STREAM)
        next(events)
        client.close_client()
        with pytest.raises(Cancelled):
            list(events)
        assert ended.wait(5)


def test_the_time_of_a_stream_ends_it(connect: Any) -> None:
    ended = threading.Event()
    with (
        FakeServer({"ExplainStream": endless(PROGRESS, ended)}) as server,
        pytest.raises(DeadlineExceeded),
    ):
        list(connect(server.address).stream(b"x", Saliency(), method=STREAM, timeout=0.3))


def test_no_server(connect: Any) -> None:
    with FakeServer() as server:
        address = server.address
    with pytest.raises(Unavailable, match="No server answers"):
        list(connect(address, max_attempts=1).stream(b"x", Saliency(), method=STREAM))


def test_a_blocking_stream_is_refused_when_it_is_asked_for(server: FakeServer) -> None:
    with Client(server.address) as client, pytest.raises(ImageFileNotFound):
        client.explain_stream("missing.png", Saliency())


async def test_a_cancelled_task_ends_its_stream() -> None:
    await check_cancelled_task(
        "ExplainStream", PROGRESS, lambda client: client.explain_stream(b"x", Saliency())
    )
