"""What the SDK sends to measure robustness, what it makes of the answer, and how it goes on."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from convlens.client import (
    AsyncClient,
    Cost,
    DeadlineExceeded,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    InvalidRequest,
    LabeledImage,
    MessageTooLarge,
    RobustnessDone,
    RobustnessItem,
    RobustnessPoint,
    RobustnessProgress,
    Unavailable,
    methods,
)
from convlens.client._fake_robustness import evaluate
from convlens.client.methods import FGSM, PGD, DeepFool, Target
from convlens.client.testing import FakeServer
from convlens.contract import with_defaults
from convlens.contract.robustness import robustness_cost
from convlens.v1 import adversarial_pb2 as pb
from tests.clients.streaming import breaking, endless

EPSILONS = [1 / 255, 2 / 255, 4 / 255, 8 / 255]
PLAN = with_defaults(
    pb.RobustnessPlan(attacks=[methods.AttackMethod(pgd=PGD())], epsilons=EPSILONS)
)
# What one image costs at most.
ONE = robustness_cost(PLAN, classes=2)


def labelled(*numbers: int) -> list[LabeledImage]:
    return [LabeledImage(str(n), b"x", "cat") for n in numbers]


def run(client: Any, images: Any, attacks: Any = None, **options: Any) -> Iterator[Any]:
    """The events of an evaluation."""
    given = {"epsilons": EPSILONS, **options}
    return client.stream(images, attacks or PGD(), method="evaluate_robustness", **given)


def items(events: Any) -> list[RobustnessItem]:
    return [event for event in events if isinstance(event, RobustnessItem)]


def test_the_curve_and_how_each_image_fared(connect: Any, server: FakeServer) -> None:
    images = [LabeledImage("a", b"x", "cat"), ("b", b"y", 1), ("c", b"z", Target(label="cat"))]
    events = list(run(connect(server.address), images, [FGSM(), PGD()]))
    first, second, third = items(events)
    assert [item.id for item in (first, second, third)] == ["a", "b", "c"]
    assert first.error is None and first.robustness and first.robustness.clean_correct
    assert len(first.robustness.budgets) == 2
    for budget in first.robustness.budgets:
        assert budget.epsilon is None or budget.epsilon in EPSILONS
    assert second.robustness and not second.robustness.clean_correct
    assert second.robustness.budgets == ()
    assert any(isinstance(event, RobustnessProgress) for event in events)
    done = events[-1]
    assert isinstance(done, RobustnessDone)
    assert (done.images_done, done.images_failed, done.is_partial) == (3, 0, False)
    assert done.receipt.network == "pets" and "checkpoint" not in repr(done)
    assert [(p.attack_index, p.norm) for p in done.points[::5]] == [
        *((0, "linf"), (1, "linf"), (None, "linf"))
    ]
    assert [point.epsilon for point in done.points[:5]] == [0, *EPSILONS]
    clean = done.points[0]
    assert isinstance(clean, RobustnessPoint)
    assert (clean.images, clean.correct) == (3, 2) and clean.accuracy == pytest.approx(2 / 3)
    assert clean.accuracy_low < clean.accuracy < clean.accuracy_high
    assert all(event.checkpoint for event in events)


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    list(
        run(
            connect(server.address),
            [("a", b"x", "cat"), ("b", np.zeros((2, 2), np.uint8), 0)],
            [PGD(steps=3), DeepFool()],
            epsilons=0.25,
            epsilons_l2=np.array([0.5, 1.0]),
            network="pets@1",
            require_rounded=True,
            confidence_level=0.9,
            seed=7,
            allow_partial=True,
            geometry="as_is",
        )
    )
    plan, batch = (request.message for request in server.requests)
    assert plan.plan == pb.RobustnessPlan(
        network="pets@1",
        attacks=[
            methods.AttackMethod(pgd=PGD(steps=3)),
            methods.AttackMethod(deep_fool=DeepFool()),
        ],
        epsilons=[0.25],
        epsilons_l2=[0.5, 1.0],
        require_rounded=True,
        confidence_level=0.9,
        seed=7,
        allow_partial=True,
    )
    first, second = batch.batch.images
    assert (first.id, first.image.encoded, first.true_class) == ("a", b"x", Target(label="cat"))
    assert second.image.tensor.shape == [2, 2, 1] and second.true_class == Target(class_index=0)
    assert first.image.geometry == second.image.geometry == 2


def test_what_is_left_out_is_left_to_the_server(connect: Any, server: FakeServer) -> None:
    list(run(connect(server.address), labelled(1)))
    bare = methods.AttackMethod(pgd=PGD())
    assert server.requests[0].message.plan == pb.RobustnessPlan(attacks=[bare], epsilons=EPSILONS)


def test_any_number_of_images_in_requests_of_64(connect: Any, server: FakeServer) -> None:
    source = (LabeledImage(str(n), b"x", "cat") for n in range(300))
    events = list(run(connect(server.address), source))
    assert [item.id for item in items(events)] == [str(n) for n in range(300)]
    sizes = [len(request.message.batch.images) for request in server.requests[1:]]
    assert sizes == [64, 64, 64, 64, 44]
    assert events[-1].images_done == 300


def test_requests_are_no_larger_than_messages_may_be(connect: Any) -> None:
    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            for image in request.batch.images:
                item = pb.RobustnessItem(id=image.id, robustness=pb.ImageRobustness())
                yield pb.EvaluateRobustnessResponse(item=item)
        yield pb.EvaluateRobustnessResponse(done=pb.RobustnessDone())

    images = [(str(n), bytes([n]) * 300, "cat") for n in range(10)]
    with FakeServer({"EvaluateRobustness": answer}, max_message_bytes=1000) as server:
        client = connect(server.address, max_message_bytes=1000)
        assert len(items(run(client, images))) == 10
        sizes = [len(request.message.batch.images) for request in server.requests[1:]]
    assert sizes == [2, 2, 2, 2, 2]


def test_what_cannot_be_sent_is_an_item_with_its_error(connect: Any, server: FakeServer) -> None:
    client = connect(server.address, max_message_bytes=100_000)
    images = [("a", "gone.png", "cat"), ("b", bytes(100_000), "cat"), ("c", b"", "cat")]
    events = list(run(client, [*images, ("d", b"x", "newt"), ("e", b"x", "cat")]))
    gone, large, empty, unknown, fine = items(events)
    assert isinstance(gone.error, ImageFileNotFound) and gone.robustness is None
    assert isinstance(large.error, MessageTooLarge)
    assert isinstance(empty.error, InvalidImage)
    assert isinstance(unknown.error, InvalidRequest) and "newt" in str(unknown.error)
    assert fine.error is None
    assert (events[-1].images_done, events[-1].images_failed) == (5, 4)


def test_images_are_read_as_answers_are_taken(connect: Any, server: FakeServer) -> None:
    read: list[int] = []
    source = (read.append(n) or LabeledImage(str(n), b"x", "cat") for n in range(1000))
    events = run(connect(server.address), source)
    for _ in range(100):
        next(events)
    time.sleep(0.1)
    assert len(read) <= 100 + 128


def test_a_source_that_is_asynchronous() -> None:
    async def source() -> AsyncIterator[LabeledImage]:
        for image in labelled(*range(70)):
            yield image

    async def follow(address: str) -> list[Any]:
        async with AsyncClient(address) as client:
            events = client.evaluate_robustness(source(), PGD(), epsilons=EPSILONS)
            return [event async for event in events]

    with FakeServer() as server:
        assert len(items(asyncio.run(follow(server.address)))) == 70


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, "There are no images; give one at least."),
        ([b"x"], {}, r"An image is a bytes; .* a LabeledImage, or \(id, image, true_class\)."),
        ([("a", b"x")], {}, "An image is a tuple"),
        ([("a", b"x", None)], {}, "The image 'a' has no true class; give it by index or label."),
        ([("a", b"x", 1.5)], {}, "A target is a float"),
        ([("", b"x", 0)], {}, "The image '' cannot be sent: id "),
        ([("a" * 201, b"x", 0)], {}, "cannot be sent: id is 201 long"),
        ([("a", b"x", 0), ("a", b"x", 0)], {}, "The id 'a' is there twice"),
        (labelled(1), {"attacks": [PGD]}, "attacks has the class PGD; write PGD()."),
        (labelled(1), {"attacks": methods.Saliency()}, "it must be one of FGSM, PGD"),
        (labelled(1), {"epsilons": "8"}, "The request is not valid"),
        (
            labelled(1),
            {"epsilons": [0.2, 0.1]},
            r"plan.epsilons\[1\] is 0.1; must be larger than the one before, 0.2",
        ),
        (labelled(1), {"epsilons": []}, "plan.epsilons is empty; PGD is measured under NORM_LINF"),
        (labelled(1), {"epsilons": [2]}, "plan.epsilons"),
        (labelled(1), {"confidence_level": 1}, "plan.confidence_level"),
        (labelled(1), {"geometry": "round"}, "geometry is 'round'"),
        (labelled(1), {"timeout": 0}, "timeout is 0"),
        (labelled(1), {"checkpoint": b"another's"}, "plan.checkpoint is of another plan"),
    ],
)
def test_what_cannot_be_asked(
    connect: Any, server: FakeServer, images: Any, options: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        list(run(connect(server.address), images, **options))


def test_an_error_of_the_source_keeps_the_end_back(connect: Any, server: FakeServer) -> None:
    def source() -> Iterator[LabeledImage]:
        yield from labelled(*range(70))
        raise LookupError("the disk is gone")

    events = run(connect(server.address), source())
    assert next(events).id == "0"
    seen: list[Any] = []
    with pytest.raises(LookupError, match="the disk is gone"):
        for event in events:
            seen.append(event)
    assert len(items(seen)) == 63
    assert not any(isinstance(event, RobustnessDone) for event in seen)
    with pytest.raises(TypeError, match="not iterable"):
        list(run(connect(server.address), 3))


def test_a_broken_stream_is_gone_on_from(connect: Any, server: FakeServer) -> None:
    whole = list(run(connect(server.address), labelled(*range(100)), [FGSM(), PGD()]))[-1]
    with FakeServer({"EvaluateRobustness": breaking(evaluate, 40)}) as other:
        client = connect(other.address)
        events: list[Any] = []
        with pytest.raises(Unavailable, match="stopping"):
            for event in run(client, labelled(*range(100)), [FGSM(), PGD()]):
                events.append(event)
        done = {item.id for item in items(events)}
        assert 0 < len(done) < 100
        left = [image for image in labelled(*range(100)) if image.id not in done]
        checkpoint = events[-1].checkpoint
        rest = list(run(client, left, [FGSM(), PGD()], checkpoint=checkpoint))
    assert len(items(rest)) == len(left)
    assert rest[-1].points == whole.points and rest[-1].images_done == 100


def test_a_checkpoint_of_all_images_gives_the_curve_alone(connect: Any, server: FakeServer) -> None:
    whole = list(run(connect(server.address), labelled(1, 2)))[-1]
    [done] = run(connect(server.address), [], checkpoint=whole.checkpoint)
    assert done.points == whole.points
    with pytest.raises(InvalidRequest, match="of another plan"):
        list(run(connect(server.address), [], checkpoint=whole.checkpoint, seed=3))


def test_the_cost_is_estimated_without_an_answer(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    images = (LabeledImage(str(n), b"x", "cat") for n in range(200))
    found = client.call("estimate_robustness", images, PGD(), epsilons=EPSILONS)
    assert found == Cost(200 * ONE.forward_passes, 200 * ONE.backward_passes)
    assert server.requests[0].message.plan.estimate_only
    with pytest.raises(InvalidRequest, match="no images"):
        client.call("estimate_robustness", [], PGD(), epsilons=EPSILONS)


ITEM = pb.EvaluateRobustnessResponse(item=pb.RobustnessItem(id="9"))
PROGRESS = pb.EvaluateRobustnessResponse(progress=pb.RobustnessProgress(images_done=1))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([PROGRESS], "ended early; messages received: 1"),
        ([pb.EvaluateRobustnessResponse()], "tells nothing"),
        ([ITEM], "answered '9', which was not sent"),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, answers: list[Any], words: str) -> None:
    with (
        FakeServer({"EvaluateRobustness": lambda _: iter(answers)}) as server,
        pytest.raises(Internal, match=words),
    ):
        list(run(connect(server.address), labelled(1)))


def test_giving_up_cancels_the_call(connect: Any) -> None:
    ended = threading.Event()
    with FakeServer({"EvaluateRobustness": endless(PROGRESS, ended)}) as server:
        assert len(list(run(connect(server.address), labelled(1), take=2))) == 2
        assert ended.wait(5)


def test_the_time_of_an_evaluation_ends_it(connect: Any) -> None:
    with (
        FakeServer({"EvaluateRobustness": endless(PROGRESS, threading.Event())}) as server,
        pytest.raises(DeadlineExceeded),
    ):
        list(run(connect(server.address), labelled(1), timeout=0.2))
    with FakeServer() as server:
        list(run(connect(server.address), labelled(1)))
        assert server.requests[0].timeout is None


def partial(requests: Iterator[Any]) -> Iterator[Any]:
    for response in evaluate(requests):
        if response.HasField("done"):
            response.done.is_partial = True
        yield response


def test_words_of_the_contract(connect: Any) -> None:
    with FakeServer({"EvaluateRobustness": partial}) as server:
        events = list(run(connect(server.address), labelled(*range(80))))
    assert events[-1].is_partial
    flags = {
        flag
        for item in items(events)
        if item.robustness
        for budget in item.robustness.budgets
        for flag in budget.flags
    }
    assert flags == {"zero_gradient"}
