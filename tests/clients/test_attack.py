"""What the SDK sends for attacks, what it makes of the answer, and what a stream tells."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import (
    AttackDone,
    AttackItem,
    AttackProgress,
    AttackVerdict,
    Cost,
    Internal,
    InvalidImage,
    InvalidRequest,
    methods,
)
from convlens.client._fake_attacks import attack
from convlens.client.methods import (
    APGD,
    FGSM,
    LBFGS,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    LeastLikely,
    Rank,
    Square,
    Target,
)
from convlens.client.testing import FakeServer
from convlens.v1 import adversarial_pb2 as pb
from tests.clients.streaming import endless

PROGRESS = pb.AttackStreamResponse(progress=pb.AttackProgress(images=1))


def test_a_verdict_says_what_became_of_the_picture(connect: Any, server: FakeServer) -> None:
    found: Any = connect(server.address).call(
        "attack", b"x", PGD(epsilon=8 / 255), return_pixels=True
    )
    assert AttackVerdict is type(found)
    assert found.succeeded and (found.status, found.rounded_status) == ("succeeded",) * 2
    assert (found.original_class_index, found.target_class_index, found.succeeded_by) == (
        0,
        None,
        "PGD",
    )
    assert [score.label for score in found.before] == ["cat", "dog"]
    assert (
        [score.label for score in found.after]
        == ["dog", "cat"]
        == [score.label for score in found.after_rounding]
    )
    assert found.distance.linf == pytest.approx(8 / 255) and found.distance.l0 == 32 * 32 * 3
    assert (found.geometry, found.flags, found.steps) == ("as_is", (), 3)
    assert found.cost == Cost(4, 3)
    assert found.receipt.network == "pets" and found.receipt.cost.backward_passes == 40
    pixels: Any = found.pixels
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.float32
    assert np.abs(found.change - 8 / 255).max() < 1e-7
    assert np.array_equal(np.asarray(found.picture), np.round(pixels * 255))
    assert repr(found) == "<AttackVerdict succeeded: cat 90.0 % -> dog 80.0 %, L2 1.74>"


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    connect(server.address).call(
        "attack",
        [b"x", b"y"],
        DeepFool(overshoot=0.1),
        target="dog",
        true_classes=["cat", 0],
        stop_at_success=False,
        until_rounded_succeeds=True,
        through_resize=True,
        return_pixels=True,
        top_k=2,
        seed=7,
        allow_partial=True,
        network="pets@1",
        geometry="as_is",
    )
    [sent] = server.requests
    assert sent.message == pb.AttackRequest(
        network="pets@1",
        images=sent.message.images,
        method=methods.AttackMethod(deep_fool=DeepFool(overshoot=0.1)),
        goal=pb.AttackGoal(target=Target(label="dog")),
        true_classes=[Target(label="cat"), Target(class_index=0)],
        stop_at_success=False,
        until_rounded_succeeds=True,
        through_resize=True,
        return_pixels=True,
        top_k=2,
        seed=7,
        allow_partial=True,
    )


def test_what_is_left_out_is_left_to_the_server(connect: Any, server: FakeServer) -> None:
    connect(server.address).call("attack", b"x", FGSM())
    [sent] = server.requests
    bare = methods.AttackMethod(fgsm=FGSM())
    assert sent.message == pb.AttackRequest(images=sent.message.images, method=bare)


@pytest.mark.parametrize(
    ("target", "goal"),
    [
        (1, pb.AttackGoal(target=Target(class_index=1))),
        (np.int64(1), pb.AttackGoal(target=Target(class_index=1))),
        ("least-likely", pb.AttackGoal(target=Target(label="least-likely"))),
        (Rank(2), pb.AttackGoal(target=Target(rank=2))),
        (Target(rank=2), pb.AttackGoal(target=Target(rank=2))),
        (LeastLikely(), pb.AttackGoal(least_likely=LeastLikely())),
        (None, None),
    ],
)
def test_targets(connect: Any, server: FakeServer, target: Any, goal: Any) -> None:
    call = connect(server.address).call
    if target == "least-likely":
        with pytest.raises(InvalidRequest, match="there are 0 to 1: cat, dog"):
            call("attack", b"x", FGSM(), target=target)
    else:
        call("attack", b"x", FGSM(), target=target)
    assert server.requests[0].message.HasField("goal") == (goal is not None)
    assert server.requests[0].message.goal == (goal or pb.AttackGoal())


@pytest.mark.parametrize(
    "method",
    [FGSM(), PGD(), APGD(), DeepFool(), CarliniWagner(), LBFGS(), Square(), AutoAttack()],
    ids=lambda method: type(method).__name__,
)
def test_every_attack_of_the_contract_can_be_asked_for(
    connect: Any, server: FakeServer, method: Any
) -> None:
    assert connect(server.address).call("attack", b"x", method).succeeded
    wrapped = server.requests[0].message.method
    assert connect(server.address).call("attack", b"x", wrapped).succeeded


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ([PGD], {}, "method has the class PGD; write PGD()."),
        ([methods.Saliency()], {}, "it must be one of FGSM, PGD, .*AutoAttack.$"),
        ([[PGD()]], {}, "method has a list"),
        ([PGD()], {"target": 1.5}, "A target is a float"),
        ([PGD(epsilon=0)], {}, "epsilon"),
        ([PGD()], {"top_k": "two"}, "The request is not valid"),
        ([PGD()], {"true_classes": ["cat", "dog"]}, "must be one for each image"),
        ([PGD()], {"target": "cat"}, "the class of image 0 already"),
    ],
)
def test_what_cannot_be_asked(
    connect: Any, server: FakeServer, arguments: Any, options: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        connect(server.address).call("attack", b"x", *arguments, **options)


def test_a_list_gives_a_list_and_errors_have_their_place(connect: Any, server: FakeServer) -> None:
    call = connect(server.address).call
    found = call("attack", [b"x", b"", "gone.png"], FGSM(), on_error="return")
    assert found[0].succeeded
    assert isinstance(found[1], InvalidImage) and found[1].index == 1
    assert "There is no file" in str(found[2]) and found[2].index == 2
    with pytest.raises(InvalidImage) as caught:
        call("attack", [b"x", b""], FGSM())
    assert caught.value.index == 1


def test_an_image_that_was_wrong_is_no_success(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("attack", b"x", FGSM(), true_classes="dog")
    assert (found.status, found.succeeded, found.succeeded_by) == (
        "already_misclassified",
        False,
        "",
    )
    assert not found.change.any()


def flagged(request: pb.AttackRequest) -> pb.AttackResponse:
    response = attack(request)
    verdict = response.results[0].verdict
    verdict.status = pb.ATTACK_STATUS_STEPS_EXHAUSTED
    verdict.rounded_status = pb.ROUNDED_STATUS_NOT_REPRESENTABLE
    verdict.flags.extend([pb.ATTACK_FLAG_ZERO_GRADIENT, pb.ATTACK_FLAG_RANDOMNESS])
    del verdict.after_rounding[:]
    return response


def test_words_of_the_contract(connect: Any) -> None:
    with FakeServer({"Attack": flagged}) as server:
        found = connect(server.address).call("attack", b"x", FGSM())
    assert (found.status, found.rounded_status) == ("steps_exhausted", "not_representable")
    assert found.flags == ("zero_gradient", "randomness")


def test_the_cost_is_estimated_without_an_answer(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    assert client.call("estimate_attack", [b"x", b"y"], PGD(steps=10)) == Cost(28, 20)
    assert server.requests[0].message.estimate_only


def test_it_shows_itself(connect: Any, server: FakeServer, tmp_path: Path) -> None:
    found = connect(server.address).call("attack", b"x", PGD(), return_pixels=True)
    sheet = found.image()
    assert sheet.width > 3 * 400 and sheet.height > 400
    shown = np.asarray(sheet)
    for color in ((0x25, 0x63, 0xEB), (0xDC, 0x26, 0x26)):
        assert (shown == color).all(axis=2).sum() > 300, "bars of both classes"
    with Image.open(io.BytesIO(found._repr_png_())) as notebook:
        assert np.array_equal(np.asarray(notebook), shown)
    found.save(tmp_path / "sheet.png")
    found.save(tmp_path / "pixels.npy")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert np.array_equal(np.asarray(saved), shown)
    assert np.array_equal(np.load(tmp_path / "pixels.npy"), found.pixels)
    with pytest.raises(ValueError, match="must end in"):
        found.save(tmp_path / "sheet.jpg")


def test_pixels_that_did_not_come(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("attack", b"x", PGD())
    assert found.pixels is None and found.image().width > 1000
    assert found.change.max() == pytest.approx(8 / 255)
    with pytest.raises(LookupError, match="return_pixels=True"):
        found.numbers()


def without_picture(request: pb.AttackRequest) -> pb.AttackResponse:
    response = attack(request)
    response.results[0].verdict.png = response.results[0].verdict.original_png = b""
    return response


def test_under_a_picture_in_8_bits_is_what_the_network_says_of_it(
    connect: Any, server: FakeServer
) -> None:
    found: Any = connect(server.address).call("attack", b"x", PGD(), return_pixels=True)
    [dog, cat] = found.after_rounding
    sheet = found._repr_png_()
    # The status words are those of the pixels as computed; the answer is that to the PNG.
    assert replace(found, after=(cat, dog))._repr_png_() == sheet
    assert replace(found, after_rounding=(cat, dog))._repr_png_() != sheet


def test_a_linear_network_has_no_picture(connect: Any) -> None:
    with FakeServer({"Attack": without_picture}) as server:
        found = connect(server.address).call("attack", b"x", FGSM())
    assert found._repr_png_() is None
    for get in (lambda: found.picture, lambda: found.change, found.image):
        with pytest.raises(LookupError, match="linear"):
            get()


def relabelled(request: pb.AttackRequest) -> pb.AttackResponse:
    response = attack(request)
    verdict = response.results[0].verdict
    for score, label in zip(verdict.before, ("x" * 500, "\x1b[31m猫\n"), strict=True):
        score.label = label
    verdict.after[0].probability = 7
    return response


def test_odd_labels_are_drawn_within_their_column(connect: Any) -> None:
    with FakeServer({"Attack": relabelled}) as server:
        odd = connect(server.address).call("attack", b"x", PGD()).image()
    with FakeServer() as server:
        plain = connect(server.address).call("attack", b"x", PGD()).image()
    assert odd.size == plain.size
    left = 24 + 448 + 1
    for sheet in (odd, plain):
        assert (np.asarray(sheet)[500:, left : left + 20] == 255).all(), "the gap stays empty"


def test_a_stream_tells_of_each_picture(connect: Any, server: FakeServer) -> None:
    events = list(connect(server.address).stream([b"x", b"y"], PGD(), method="attack_stream"))
    assert [type(event).__name__ for event in events] == [
        *("AttackProgress", "AttackItem", "AttackProgress", "AttackItem", "AttackDone")
    ]
    assert [e.images_fooled for e in events if isinstance(e, AttackProgress)] == [0, 1]
    items = [event for event in events if isinstance(event, AttackItem)]
    assert [item.image_index for item in items] == [0, 1]
    for item in items:
        assert item.is_final and item.error is None
        assert item.verdict and item.verdict.succeeded and item.verdict.receipt is None
    done = events[-1]
    assert isinstance(done, AttackDone) and done.receipt.network == "pets"
    assert done.estimated_cost == events[0].estimated_cost == Cost(88, 80)


def test_the_best_so_far(connect: Any, server: FakeServer) -> None:
    options = {"method": "attack_stream", "partial_items": True, "min_interval_ms": 5}
    events = list(connect(server.address).stream(b"x", PGD(), **options))
    items = [event for event in events if isinstance(event, AttackItem)]
    assert [(i.is_final, i.verdict and i.verdict.status) for i in items] == [
        (False, "in_progress"),
        (True, "succeeded"),
    ]
    assert items[0].verdict and items[0].verdict.image().width > 1000
    sent = server.requests[0].message
    assert sent.partial_items and sent.min_interval_ms == 5


def test_errors_in_a_stream(connect: Any, server: FakeServer) -> None:
    options = {"method": "attack_stream", "on_error": "return"}
    events = list(connect(server.address).stream([b"", "gone.png", b"x"], FGSM(), **options))
    items = [event for event in events if isinstance(event, AttackItem)]
    assert [item.verdict is None for item in items] == [True, True, False]
    assert isinstance(items[0].error, InvalidImage) and items[0].error.index == 0
    assert "There is no file" in str(items[1].error)
    with pytest.raises(InvalidImage):
        list(connect(server.address).stream([b""], FGSM(), method="attack_stream"))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([PROGRESS], "ended early; messages received: 1"),
        ([pb.AttackStreamResponse()], "tells nothing"),
        ([pb.AttackStreamResponse(item=pb.AttackItem(image_index=1))], "an image that was not"),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, answers: list[Any], words: str) -> None:
    with (
        FakeServer({"AttackStream": lambda _: iter(answers)}) as server,
        pytest.raises(Internal, match=words),
    ):
        list(connect(server.address).stream(b"x", FGSM(), method="attack_stream"))


def test_giving_up_cancels_the_call(connect: Any) -> None:
    ended = threading.Event()
    with FakeServer({"AttackStream": endless(PROGRESS, ended)}) as server:
        client = connect(server.address)
        assert len(list(client.stream(b"x", FGSM(), method="attack_stream", take=2))) == 2
        assert ended.wait(5)
