"""What the SDK sends to make pictures, what it makes of the answer, and how it goes on."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import (
    Client,
    Cost,
    DeadlineExceeded,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    InvalidRequest,
    NotFound,
    SynthesisDone,
    SynthesisPreview,
    SynthesisProgress,
    Unavailable,
    methods,
)
from convlens.client._fake_synthesis import synthesize
from convlens.client.methods import (
    ClassModel,
    FeatureUnit,
    Fooling,
    FoolingCppn,
    FoolingDirect,
    FoolingGradient,
    Inversion,
    Position,
    Priors,
    Target,
    UnitMaximization,
)
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1 import tensor_pb2
from tests.clients.streaming import breaking, check_cancelled_task, endless

PROGRESS = pb.SynthesizeResponse(progress=pb.SynthesisProgress(steps=1))
BROKEN = pb.SynthesizedPicture(pixels=tensor_pb2.Tensor(shape=[3]))
UNIT = UnitMaximization(layer="avgpool", unit=FeatureUnit(map_index=1))

# Every method of the contract, with what is said beside it, and the pictures that it makes.
METHODS: list[tuple[Any, dict[str, Any], int]] = [
    (ClassModel(steps=4), {"target": "cat"}, 1),
    (UnitMaximization(layer="avgpool", unit=FeatureUnit(map_index=1), steps=4), {}, 1),
    (UnitMaximization(layer="avgpool", steps=4), {"direction": np.ones(3)}, 1),
    (Inversion(layer="avgpool", steps=4, reconstructions=3), {"image": b"x"}, 3),
    (Inversion(layer="logits", steps=4), {"code": np.zeros(4, np.float64)}, 1),
    (FoolingGradient(steps=4), {"target": ["dog", 0]}, 2),
    (FoolingDirect(evaluations=8, offspring=2), {"target": "dog"}, 1),
    (FoolingCppn(evaluations=8, offspring=2), {}, 2),
    (Fooling(confidence=0.5, gradient=FoolingGradient(steps=4)), {}, 2),
]
NAMES = [f"{type(method).__name__}-{number}" for number, (method, _, _) in enumerate(METHODS)]


def run(client: Any, method: Any, **options: Any) -> list[Any]:
    """The events of a synthesis."""
    return list(client.stream(method, method="synthesize", **options))


def question(server: FakeServer) -> pb.SynthesizeRequest:
    """The last request."""
    return server.requests[-1].message


@pytest.mark.parametrize(("method", "options", "count"), METHODS, ids=NAMES)
def test_every_method_tells_of_its_pictures_while_they_grow(
    connect: Any, server: FakeServer, method: Any, options: Any, count: int
) -> None:
    asked = {"preview_every": 2, "return_pixels": True, **options}
    events = run(connect(server.address), method, **asked)
    assert [type(event).__name__ for event in events] == [
        *("SynthesisProgress", "SynthesisProgress", "SynthesisPreview"),
        *("SynthesisProgress", "SynthesisProgress", "SynthesisPreview"),
        *["SynthesisItem"] * count,
        "SynthesisDone",
    ]
    steps = [event.step for event in events if isinstance(event, SynthesisProgress)]
    assert steps == [1, 2, 3, 4] and events[0].steps == 4
    for event in events[: -1 - count]:
        shown = event.pictures if isinstance(event, SynthesisProgress) else event.images
        assert len(shown) == count
    done = events[-1]
    assert len(done.pictures) == count and not done.is_partial
    assert done.receipt.network == "pets" and done.receipt.cost == done.estimated_cost
    for picture in done.pictures:
        pixels = picture.pixels
        assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.float32)
        assert np.array_equal(np.asarray(picture.image()), np.round(pixels * 255))
        assert picture.prediction.label in ("cat", "dog") and picture.steps == 4
    assert "checkpoint" not in repr(events) and "\\x" not in repr(events)


def test_progress_says_how_each_picture_stands(connect: Any, server: FakeServer) -> None:
    events = run(connect(server.address), FoolingGradient(steps=2))
    first, second = (event for event in events if isinstance(event, SynthesisProgress))
    picture = second.pictures[1]
    assert picture.picture_index == 1 and picture.objective > first.pictures[1].objective
    assert [term.name for term in picture.terms] == ["score", "l2"]
    assert picture.loss == sum(term.value for term in picture.terms) < 0
    assert picture.probability and picture.gradient_norm
    assert 0 < first.cost.backward_passes < second.cost.backward_passes
    [event, *_] = run(connect(server.address), FoolingDirect(evaluations=128))
    assert event.pictures[0].gradient_norm is None
    [event, *_] = run(connect(server.address), UNIT, canvas=8)
    assert event.pictures[0].probability is None


def test_the_end_says_what_the_network_says(connect: Any, server: FakeServer) -> None:
    call = connect(server.address).call
    [found] = call("synthesize_to_end", ClassModel(steps=512), target="dog").pictures
    assert found.target.label == found.prediction.label == found.rounded_prediction.label == "dog"
    assert found.prediction.probability > 0.99
    assert (found.activation, found.code_distance, found.psnr, found.confident) == (None,) * 4
    [found] = call("synthesize_to_end", UNIT).pictures
    assert found.target is None and found.activation > 0
    [found] = call("synthesize_to_end", Inversion(layer="avgpool"), image=b"x").pictures
    assert found.code_distance < 1 and found.psnr > 0
    [found] = call("synthesize_to_end", Inversion(layer="avgpool"), code=np.ones(4)).pictures
    assert found.psnr is None
    done = call("synthesize_to_end", FoolingGradient(steps=8))
    assert [(p.target.label, p.confident) for p in done.pictures] == [
        ("cat", False),
        ("dog", False),
    ]


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    method = UnitMaximization(
        layer="avgpool",
        unit=FeatureUnit(map_index=3, position=Position(row=1, column=2)),
        steps=3,
        priors=Priors(jitter=4),
    )
    run(
        connect(server.address),
        method,
        canvas=(24, 16),
        progress_every=2,
        preview_every=0,
        seed=7,
        allow_partial=True,
        network="pets@1",
        timeout=9,
    )
    [sent] = server.requests
    assert sent.message == pb.SynthesizeRequest(
        network="pets@1",
        method=methods.SynthesisMethod(unit_maximization=method),
        canvas=pb.Canvas(height=24, width=16),
        progress_every=2,
        preview_every=0,
        seed=7,
        allow_partial=True,
    )
    assert sent.timeout == pytest.approx(9, abs=1)


def test_what_is_left_out_is_left_to_the_server(connect: Any, server: FakeServer) -> None:
    run(connect(server.address), ClassModel(target=Target(class_index=0), steps=1))
    [sent] = server.requests
    bare = methods.SynthesisMethod(class_model=ClassModel(target=Target(class_index=0), steps=1))
    assert sent.message == pb.SynthesizeRequest(method=bare) and sent.timeout is None


def test_the_method_that_is_given_stays_as_it_is(connect: Any, server: FakeServer) -> None:
    method = ClassModel(steps=1)
    for target in ("cat", 1, np.int64(1), Target(label="dog")):
        connect(server.address).call("synthesize_to_end", method, target=target)
    assert method == ClassModel(steps=1)
    targets = [request.message.method.class_model.target for request in server.requests]
    assert targets == [
        Target(label="cat"),
        *[Target(class_index=1)] * 2,
        Target(label="dog"),
    ]


@pytest.mark.parametrize("kind", ["path", "bytes", "pil", "array", "file"])
def test_a_picture_in_every_form(
    connect: Any, server: FakeServer, tmp_path: Path, kind: str
) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    forms = {
        "path": str(path),
        "bytes": path.read_bytes(),
        "pil": Image.fromarray(pixels),
        "array": pixels,
        "file": io.BytesIO(path.read_bytes()),
    }
    method = Inversion(layer="avgpool", steps=1)
    call = connect(server.address).call
    call("synthesize_to_end", method, image=forms[kind], geometry="as_is")
    image = question(server).method.inversion.image
    assert image.geometry == 2
    assert image.tensor.shape == [4, 4, 3] if kind == "array" else image.encoded[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (ClassModel, {}, "method has the class ClassModel; write ClassModel()."),
        (methods.PGD(), {}, "method has a PGD; it must be one of ClassModel, UnitMax.*Fooling.$"),
        (methods.SynthesisMethod(), {}, "method says nothing; it must be one of ClassModel"),
        (ClassModel(), {}, "method.class_model.target must be given|target"),
        (ClassModel(), {"target": 1.5}, "A target is a float"),
        (ClassModel(), {"target": ["cat", "dog"]}, "a list of 2; ClassModel takes one"),
        (ClassModel(target=Target(label="cat")), {"target": 1}, "ClassModel has target already"),
        (ClassModel(), {"target": "newt"}, "there are 0 to 1: cat, dog"),
        (ClassModel(l2_weight=-1), {"target": 1}, "l2_weight is -1; must be at least 0"),
        (ClassModel(steps=1_000_000), {"target": 1}, r"steps is .*; must be at .* 100000"),
        (ClassModel(), {"target": 1, "canvas": 4096}, "height is 4096; must be at .* 1024"),
        (ClassModel(), {"target": 1, "canvas": (1, 2, 3)}, "must be .height, width., or the side"),
        (ClassModel(), {"target": 1, "canvas": "big"}, "canvas is 'big'; it must be"),
        (ClassModel(), {"target": 1, "canvas": ("a", "b")}, "The request is not valid"),
        (ClassModel(), {"target": 1, "canvas": -1}, "height is -1; must be at least 0"),
        (ClassModel(), {"target": 1, "checkpoint": "x"}, "The request is not valid"),
        (ClassModel(), {"target": 1, "checkpoint": b"x"}, "checkpoint is none, or is damaged"),
        (ClassModel(), {"image": b"x"}, "image is given, and ClassModel takes none"),
        (Inversion(layer="avgpool"), {}, "source"),
        (Inversion(layer="avgpool"), {"target": 1}, "target is given, and Inversion takes none"),
        (
            Inversion(layer="avgpool"),
            {"image": b"x", "code": np.ones(4)},
            "code is given, and Inversion has image already; give one of them",
        ),
        (Inversion(layer="avgpool"), {"code": np.ones(3)}, "has the shape .3.; must be .4."),
        (Inversion(layer="avgpool"), {"code": np.array(["a"])}, "code must be an array of numbers"),
        (Inversion(layer="avgpool"), {"code": np.array([1j])}, "its numbers are complex128"),
        (UNIT, {"direction": np.ones(3)}, "UnitMaximization has unit already"),
        (Fooling(), {}, "encoding"),
        (
            Fooling(targets=[Target(label="cat")], gradient=FoolingGradient()),
            {"target": "dog"},
            "Fooling has targets already",
        ),
    ],
)
def test_what_cannot_be_asked(
    connect: Any, server: FakeServer, method: Any, options: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        run(connect(server.address), method, **options)


def test_layers_and_networks_that_there_are_not(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    with pytest.raises(NotFound, match="has no layer pool9; the nearest are: avgpool"):
        run(client, Inversion(layer="pool9"), image=b"x")
    with pytest.raises(NotFound, match="No network zoo"):
        run(client, ClassModel(), target=0, network="zoo")


def test_pictures_that_cannot_be_inverted(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    with pytest.raises(ImageFileNotFound):
        run(client, Inversion(layer="avgpool"), image="gone.png")
    with pytest.raises(InvalidImage, match="The image is empty"):
        run(client, Inversion(layer="avgpool"), image=b"")


def test_going_on_from_a_preview_gives_the_same_pictures(connect: Any, server: FakeServer) -> None:
    client, method = connect(server.address), FoolingGradient(steps=20)
    whole = run(client, method)[-1]
    [preview] = [e for e in run(client, method, preview_every=12) if type(e) is SynthesisPreview]
    events = run(client, method, checkpoint=preview.checkpoint)
    assert events[0].step == 13
    for one, other in zip(whole.pictures, events[-1].pictures, strict=True):
        assert one.png == other.png
    events = run(client, FoolingGradient(steps=22), checkpoint=whole.checkpoint)
    assert [event.step for event in events[:-3]] == [21, 22]


@pytest.mark.parametrize(
    ("method", "other"),
    [
        (ClassModel(steps=2), {"target": "cat"}),
        (FoolingGradient(steps=2), {"seed": 1}),
        (FoolingGradient(steps=2), {"canvas": 16}),
        (FoolingGradient(steps=2, l2_weight=0.5), {}),
    ],
)
def test_a_checkpoint_of_another_question(
    connect: Any, server: FakeServer, method: Any, other: Any
) -> None:
    client = connect(server.address)
    done = client.call("synthesize_to_end", FoolingGradient(steps=2))
    with pytest.raises(InvalidRequest, match="checkpoint is that of another question"):
        run(client, method, checkpoint=done.checkpoint, **other)


def test_a_preview_is_decoded_when_it_is_looked_at(connect: Any, server: FakeServer) -> None:
    events = run(connect(server.address), FoolingCppn(evaluations=128), preview_every=1)
    first, second = (event for event in events if isinstance(event, SynthesisPreview))
    assert first.images == (None, None) and first._repr_png_() is None
    for png, image in zip(second.pngs, second.images, strict=True):
        assert image is not None
        with Image.open(io.BytesIO(png)) as same:
            assert np.array_equal(np.asarray(same), np.asarray(image))
    with Image.open(io.BytesIO(second._repr_png_() or b"")) as sheet:
        assert sheet.size == (2 * 128 + 2, 128)


def test_pictures_show_themselves(connect: Any, server: FakeServer, tmp_path: Path) -> None:
    asked = {"return_pixels": True}
    done = connect(server.address).call("synthesize_to_end", FoolingGradient(steps=2), **asked)
    with Image.open(io.BytesIO(done._repr_png_())) as sheet:
        assert sheet.size == (2 * 128 + 2, 128)
    picture = done.pictures[0]
    picture.save(tmp_path / "fool.png")
    picture.save(tmp_path / "fool.npy")
    assert (tmp_path / "fool.png").read_bytes() == picture.png
    assert np.array_equal(np.load(tmp_path / "fool.npy"), picture.pixels)


def test_a_picture_that_is_not_there(connect: Any) -> None:
    empty = pb.SynthesizeResponse(item=pb.SynthesisItem(picture=pb.SynthesizedPicture(steps=1)))
    end = pb.SynthesizeResponse(done=pb.SynthesisDone(is_partial=True))
    with FakeServer({"Synthesize": lambda _: iter([empty, end])}) as server:
        done = connect(server.address).call("synthesize_to_end", FoolingCppn())
    [picture] = done.pictures
    assert (picture.png, picture.pixels, picture.prediction) == (b"", None, None)
    assert done.is_partial and done._repr_png_() is picture._repr_png_() is None
    for look in (picture.image, picture.numbers):
        with pytest.raises(LookupError, match="There is no picture; the time was over"):
            look()


FAILED = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="r").status()


def one_of_two_fails(request: pb.SynthesizeRequest) -> Iterator[pb.SynthesizeResponse]:
    """The second picture cannot be made."""
    for response in synthesize(request):
        if response.item.picture_index == 1:
            response.item.error.CopyFrom(FAILED)
        yield response


def test_a_picture_that_could_not_be_made(connect: Any, server: FakeServer) -> None:
    server.answers["Synthesize"] = one_of_two_fails
    client = connect(server.address)
    *_, first, second, done = run(client, FoolingGradient(steps=2))
    assert [first.picture.error, type(second.picture.error)] == [None, Internal]
    assert done.pictures == (first.picture, second.picture)
    with pytest.raises(Internal):
        second.picture.image()
    with pytest.raises(LookupError, match="return_pixels=True"):
        first.picture.numbers()
    with pytest.raises(Internal) as caught:
        client.call("synthesize_to_end", FoolingGradient(steps=2))
    assert caught.value.index == 1
    kept = client.call("synthesize_to_end", FoolingGradient(steps=2), on_error="return")
    assert [picture.error is None for picture in kept.pictures] == [True, False]
    with pytest.raises(InvalidRequest, match="on_error"):
        client.call("synthesize_to_end", FoolingGradient(steps=2), on_error="ignore")


def test_the_end_alone(connect: Any, server: FakeServer) -> None:
    done = connect(server.address).call("synthesize_to_end", FoolingGradient(steps=3), seed=2)
    assert isinstance(done, SynthesisDone)
    [sent] = server.requests
    assert sent.message.preview_every == 0 and sent.message.HasField("preview_every")


def test_the_cost_is_estimated_without_a_picture(connect: Any, server: FakeServer) -> None:
    call = connect(server.address).call
    cost = call("estimate_synthesis", Inversion(layer="avgpool", steps=10), image=b"x")
    assert type(cost) is Cost and cost.forward_passes > cost.backward_passes >= 10
    assert question(server).estimate_only and server.requests[0].timeout is not None
    with pytest.raises(InvalidRequest, match="there are 0 to 1"):
        call("estimate_synthesis", ClassModel(), target=2)


def test_a_server_that_stops(connect: Any, server: FakeServer) -> None:
    server.answers["Synthesize"] = breaking(synthesize, 3)
    events = connect(server.address).stream(FoolingGradient(), method="synthesize", preview_every=2)
    kinds: list[str] = []
    with pytest.raises(Unavailable):
        for event in events:
            kinds.append(type(event).__name__)
    assert kinds == ["SynthesisProgress", "SynthesisProgress", "SynthesisPreview"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([PROGRESS], "ended early; messages received: 1"),
        ([pb.SynthesizeResponse()], "tells nothing"),
        (
            [pb.SynthesizeResponse(item=pb.SynthesisItem(picture=BROKEN))],
            "a tensor that is none",
        ),
        (
            [
                pb.SynthesizeResponse(item=pb.SynthesisItem(picture_index=1)),
                pb.SynthesizeResponse(done=pb.SynthesisDone()),
            ],
            "left out a picture",
        ),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, answers: list[Any], words: str) -> None:
    with (
        FakeServer({"Synthesize": lambda _: iter(answers)}) as server,
        pytest.raises(Internal, match=words),
    ):
        run(connect(server.address), FoolingGradient())


def test_closing_the_iterator_cancels_the_call(connect: Any) -> None:
    ended = threading.Event()
    with FakeServer({"Synthesize": endless(PROGRESS, ended)}) as server:
        client = connect(server.address)
        assert len(list(client.stream(FoolingGradient(), method="synthesize", take=2))) == 2
        assert ended.wait(5)


def test_the_time_of_a_call(connect: Any) -> None:
    with FakeServer({"Synthesize": endless(PROGRESS, threading.Event())}) as server:
        client = connect(server.address)
        with pytest.raises(DeadlineExceeded):
            run(client, FoolingGradient(), timeout=0.3)
        with pytest.raises(DeadlineExceeded):
            client.call("synthesize_to_end", FoolingGradient(), timeout=0.3)


def test_a_blocking_call_is_refused_when_it_is_made(server: FakeServer) -> None:
    with Client(server.address) as client, pytest.raises(InvalidRequest, match="takes one"):
        client.synthesize(ClassModel(), target=[0, 1])
    assert server.requests == []


async def test_a_cancelled_task_ends_its_call() -> None:
    await check_cancelled_task(
        "Synthesize", PROGRESS, lambda client: client.synthesize(FoolingGradient())
    )
