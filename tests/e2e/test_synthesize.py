"""Synthesize over both engines: pictures grow, are told of, go on elsewhere, and can be stopped."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.message import Message
from PIL import Image as Pictures

from convlens.contract.errors import reason_name
from convlens.v1 import image_pb2, tensor_pb2
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.classification_pb2_grpc import ClassificationServiceStub
from convlens.v1.image_pb2 import Image
from convlens.v1.synthesis_pb2_grpc import SynthesisServiceStub
from convlens.v1.target_pb2 import Target
from tests.conftest import RunningServer
from tests.e2e.test_bad_input import refusal, refused

STAR = Target(label="star")
UNIT = methods.FeatureUnit(map_index=3)


def numbers(values: Any) -> tensor_pb2.Tensor:
    array = np.asarray(values, "<f4")
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=array.shape, data=array.tobytes()
    )


def direct(evaluations: int = 32) -> methods.Fooling:
    encoding = methods.FoolingDirect(evaluations=evaluations, offspring=8)
    return methods.Fooling(direct=encoding, targets=[STAR, Target(class_index=0)])


def cppn(evaluations: int = 32) -> methods.Fooling:
    return methods.Fooling(cppn=methods.FoolingCppn(evaluations=evaluations, offspring=8))


# Each takes four steps or generations; the picture is filled in where one is inverted.
METHODS: dict[str, Callable[[Path], Message]] = {
    "class model": lambda _: methods.ClassModel(target=STAR, steps=4),
    "with every prior": lambda _: methods.ClassModel(
        target=STAR,
        steps=4,
        priors=methods.Priors(
            total_variation=0.01,
            padding=4,
            jitter=4,
            scale=0.1,
            rotation=10,
            parametrization=methods.PARAMETRIZATION_FOURIER,
            decorrelate_colors=True,
        ),
    ),
    "map": lambda _: methods.UnitMaximization(layer="features.5", unit=UNIT, steps=4),
    "direction": lambda _: methods.UnitMaximization(
        layer="classifier.5", direction=numbers(np.arange(10)), steps=4
    ),
    "inversion": lambda file: methods.Inversion(
        layer="features.2", image=Image(encoded=file.read_bytes()), reconstructions=2, steps=4
    ),
    "inversion of scores": lambda _: methods.Inversion(
        layer="log-probabilities", code=numbers(-np.arange(10)), steps=4
    ),
    "fooling by gradient": lambda _: methods.Fooling(
        gradient=methods.FoolingGradient(steps=4), targets=[STAR, Target(class_index=0)]
    ),
    "fooling by direct encoding": lambda _: direct(),
    "fooling by CPPN": lambda _: cppn(),
}
PICTURES = {"inversion": 2, "fooling by gradient": 2, "fooling by direct encoding": 2}


@pytest.fixture(scope="module")
def synthesizing(channel: grpc.Channel) -> Any:
    return SynthesisServiceStub(channel)


def request(parameters: Message, **fields: Any) -> pb.SynthesizeRequest:
    known: Any = methods.SynthesisMethod.DESCRIPTOR.fields
    [name] = [field.name for field in known if field.message_type is parameters.DESCRIPTOR]
    made = pb.SynthesizeRequest(return_pixels=True, **fields)
    getattr(made.method, name).CopyFrom(parameters)
    return made


def run(stub: Any, asked: pb.SynthesizeRequest, timeout: float = 60) -> list[Any]:
    """Every message of an answer."""
    return [
        getattr(each, each.WhichOneof("event")) for each in stub.Synthesize(asked, timeout=timeout)
    ]


def pixels(picture: pb.SynthesizedPicture) -> np.ndarray[Any, Any]:
    return np.frombuffer(picture.pixels.data, "<f4").reshape(picture.pixels.shape)


def made_in(answer: list[Any]) -> list[pb.SynthesizedPicture]:
    """The pictures of an answer; every one is told of once."""
    items = [each for each in answer if isinstance(each, pb.SynthesisItem)]
    made = {item.picture_index: item.picture for item in items if item.HasField("picture")}
    assert len(made) == len(items) and sorted(made) == [*range(len(made))]
    return [made[number] for number in sorted(made)]


def bits(answer: list[Any]) -> tuple[bytes, ...]:
    """What is of interest in an answer: not what it took to get there."""
    return (*(each.SerializeToString(deterministic=True) for each in made_in(answer)),)


@pytest.mark.parametrize("name", METHODS)
def test_pictures_grow_and_are_what_the_network_says_of_them(
    synthesizing: Any, channel: grpc.Channel, pictures: list[Path], name: str
) -> None:
    asked = request(METHODS[name](pictures[0]), preview_every=2)
    answer = run(synthesizing, asked)
    *told, done = answer
    progress = [each for each in told if isinstance(each, pb.SynthesisProgress)]
    assert [each.step for each in progress] == [1, 2, 3, 4]
    assert {each.steps for each in progress} == {4}
    assert all(np.isfinite(picture.objective) for each in progress for picture in each.pictures)
    previews = [each for each in told if isinstance(each, pb.SynthesisPreview)]
    assert [each.step for each in previews] == [2, 4]
    assert all(each.checkpoint for each in previews) and done.checkpoint and not done.is_partial
    made = made_in(answer)
    assert len(made) == PICTURES.get(name, 10 if name == "fooling by CPPN" else 1)
    classifying = ClassificationServiceStub(channel)
    for picture in [each for each in made if each.png]:
        values = pixels(picture)
        assert values.shape == (128, 128, 3) and 0 <= values.min() < values.max() <= 1
        eight = np.asarray(Pictures.open(io.BytesIO(picture.png)))
        assert np.abs(eight / 255 - values).max() <= 0.501 / 255
        exact = Image(tensor=picture.pixels, geometry=image_pb2.GEOMETRY_AS_IS)
        rounded = Image(encoded=picture.png, geometry=image_pb2.GEOMETRY_AS_IS)
        said = classifying.Classify(ClassifyRequest(images=[exact, rounded]), timeout=30)
        for result, told_of in zip(
            said.results, (picture.prediction, picture.rounded_prediction), strict=True
        ):
            [first, *_] = result.classification.classes
            assert first.label == told_of.label
            assert first.probability == pytest.approx(told_of.probability, abs=1e-4)
    spent, most = done.receipt.cost, done.estimated_cost
    assert 0 < spent.forward_passes <= most.forward_passes
    assert spent.backward_passes <= most.backward_passes


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_goes_on_elsewhere_as_if_nothing_had_been(
    servers: Callable[[str], RunningServer], pictures: list[Path], name: str
) -> None:
    here, there = (
        SynthesisServiceStub(servers(engine).channel()) for engine in ("embedded", "triton-local")
    )
    asked = request(METHODS[name](pictures[0]), preview_every=2)
    told = run(here, asked)
    first = next(each for each in told if isinstance(each, pb.SynthesisPreview))
    asked.checkpoint = first.checkpoint
    more = run(there, asked)
    assert [each.step for each in more if isinstance(each, pb.SynthesisProgress)] == [3, 4]
    assert bits(told) == bits(more)
    asked.checkpoint = b""
    assert bits(run(there, asked)) == bits(told), "the same without a checkpoint"


def test_more_steps_may_be_asked_for_than_at_first(synthesizing: Any) -> None:
    short = run(synthesizing, request(methods.ClassModel(target=STAR, steps=3)))[-1]
    asked = request(methods.ClassModel(target=STAR, steps=6), preview_every=0)
    whole = run(synthesizing, asked)
    asked.checkpoint = short.checkpoint
    longer = run(synthesizing, asked)
    assert bits(longer) == bits(whole)
    assert longer[-1].receipt.cost.forward_passes < whole[-1].receipt.cost.forward_passes


def test_another_canvas_is_seen_at_the_networks_size(synthesizing: Any) -> None:
    canvas = pb.Canvas(height=96, width=160)
    asked = request(methods.ClassModel(target=STAR, steps=8), canvas=canvas)
    [picture] = made_in(run(synthesizing, asked))
    assert pixels(picture).shape == (96, 160, 3)
    assert Pictures.open(io.BytesIO(picture.png)).size == (160, 96)


def test_company_does_not_change_a_picture(synthesizing: Any) -> None:
    asked = [request(methods.ClassModel(target=Target(class_index=n), steps=5)) for n in range(6)]
    alone = [bits(run(synthesizing, each)) for each in asked]
    streams = [synthesizing.Synthesize(each, timeout=60) for each in reversed(asked)]
    together = [bits([each.item for each in stream if each.HasField("item")]) for stream in streams]
    assert together[::-1] == alone
    assert len(set(alone)) == 6


def cpu_seconds() -> float:
    """Of this process and of all below it: the embedded engine, and Triton with its workers."""
    own = psutil.Process(os.getpid())
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def test_cancelling_ends_the_work_at_once(synthesizing: Any) -> None:
    asked = request(methods.ClassModel(target=STAR, steps=40_000), preview_every=0)
    call = synthesizing.Synthesize(asked, timeout=300)
    assert [next(call).progress.step for _ in range(5)] == [1, 2, 3, 4, 5]
    call.cancel()
    time.sleep(0.5)
    before = cpu_seconds()
    time.sleep(1)
    assert cpu_seconds() - before < 0.4, "the work would have taken a second and more"
    assert run(synthesizing, request(methods.ClassModel(target=STAR, steps=1)))


def test_a_deadline_brings_the_best_so_far_to_who_wants_it(synthesizing: Any) -> None:
    endless = methods.ClassModel(target=STAR, steps=40_000)
    asked = request(endless, allow_partial=True, progress_every=100_000, preview_every=0)
    answer = run(synthesizing, asked, timeout=2)
    *_, done = answer
    assert done.is_partial
    [picture] = made_in(answer)
    assert 0 < picture.steps < 40_000 and picture.target.label == "star"
    asked.checkpoint = done.checkpoint
    [later] = made_in(run(synthesizing, asked, timeout=2))
    assert later.steps > picture.steps
    asked.allow_partial = False
    with refused() as caught:
        run(synthesizing, asked, timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_large_picture_is_there_by_the_deadline_too(synthesizing: Any) -> None:
    endless = methods.ClassModel(target=STAR, steps=40_000)
    canvas = pb.Canvas(height=512, width=512)
    asked = request(endless, allow_partial=True, preview_every=0, canvas=canvas)
    answer = run(synthesizing, asked, timeout=4)
    [picture] = made_in(answer)
    assert answer[-1].is_partial and pixels(picture).shape == (512, 512, 3)


def test_what_is_known_of_the_class_is_told_in_a_partial_answer_too(synthesizing: Any) -> None:
    asked = request(cppn(evaluations=90_000), allow_partial=True, preview_every=0)
    answer = run(synthesizing, asked, timeout=2)
    *_, last = (each for each in answer if isinstance(each, pb.SynthesisProgress))
    assert answer[-1].is_partial
    for picture, progress in zip(made_in(answer), last.pictures, strict=True):
        assert picture.target.probability >= progress.probability - 1e-6 > 0
        assert not picture.HasField("prediction") and not picture.target.HasField("logit")


@pytest.mark.parametrize(
    ("method", "fewer"),
    [
        (methods.ClassModel(target=STAR, steps=6), methods.ClassModel(target=STAR, steps=2)),
        (cppn(evaluations=48), cppn(evaluations=16)),
    ],
    ids=["steps", "evaluations"],
)
def test_a_receipt_says_how_many_steps_were_really_done(
    synthesizing: Any, method: Message, fewer: Message
) -> None:
    answer = run(synthesizing, request(method))
    later = run(synthesizing, request(fewer, checkpoint=answer[-1].checkpoint))
    assert bits(later) == bits(answer)
    assert later[-1].receipt.parameters == answer[-1].receipt.parameters


def test_an_estimate_computes_nothing(synthesizing: Any) -> None:
    asked = request(methods.ClassModel(target=STAR, steps=100), estimate_only=True)
    [done] = run(synthesizing, asked)
    assert not done.checkpoint and not done.HasField("receipt")
    assert done.estimated_cost.backward_passes >= 100


def failed(stub: Any, parameters: Message, **fields: Any) -> Any:
    return refusal(lambda: run(stub, request(parameters, **fields)))


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        (methods.ClassModel(target=Target(label="stra")), "class_model.target.label", "star"),
        (methods.ClassModel(target=Target(class_index=10)), "target.class_index", "0 to 9"),
        (methods.ClassModel(target=Target(rank=1)), "target.rank", "no picture"),
        (methods.ClassModel(target=STAR, steps=0), "class_model.steps", "at least 1"),
        (
            methods.ClassModel(target=STAR, steps=10**6),
            "class_model.steps",
            "is 1000000; must be at least 1 and at most 100000",
        ),
        (methods.ClassModel(target=STAR, l2_weight=-1), "class_model.l2_weight", "at least 0"),
        (methods.ClassModel(), "class_model.target", "must be set"),
        (
            methods.UnitMaximization(layer="features.5", unit=methods.FeatureUnit(map_index=999)),
            "unit_maximization.unit.map_index",
            "must be below",
        ),
        (
            methods.UnitMaximization(layer="features.5", direction=numbers([1, 2])),
            "unit_maximization.direction",
            "shape",
        ),
        (methods.Inversion(layer="features.2"), "method.inversion", "one of"),
        (methods.Inversion(layer="logits", code=numbers([1, 2])), "inversion.code", "[10]"),
        (methods.Inversion(layer="logits", code=numbers([0] * 10)), "inversion.code", "all 0"),
        (
            methods.Inversion(layer="logits", code=numbers([np.nan] * 10)),
            "inversion.code",
            "finite",
        ),
        (methods.Inversion(layer="logits", code=numbers([1e30] * 10)), "inversion.code", "1e+09"),
        (methods.Inversion(layer="logits", code=numbers([1e-20] * 10)), "inversion.code", "1e-09"),
        (
            methods.Inversion(
                layer="logits",
                code=tensor_pb2.Tensor(
                    dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[-2, -5], data=bytes(40)
                ),
            ),
            "inversion.code",
            "negative",
        ),
        (methods.Fooling(targets=[STAR]), "method.fooling", "one of"),
        (direct(evaluations=7), "fooling.direct.evaluations", "at least offspring, 8"),
        (cppn(evaluations=7), "fooling.cppn.evaluations", "at least offspring, 8"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_cannot_be_made_is_refused_by_name(
    synthesizing: Any, parameters: Message, field: str, words: str
) -> None:
    failure = failed(synthesizing, parameters)
    assert reason_name(failure.reason) == "INVALID_REQUEST"
    [violation] = failure.violations
    assert field in violation.field and words in violation.description


def test_a_canvas_that_is_too_large_is_refused_by_its_side(synthesizing: Any) -> None:
    canvas = pb.Canvas(height=4096, width=64)
    [violation] = failed(synthesizing, methods.ClassModel(target=STAR), canvas=canvas).violations
    assert violation.field == "canvas.height" and "at most 1024" in violation.description


def test_what_would_not_fit_is_not_estimated_either(synthesizing: Any) -> None:
    failure = failed(synthesizing, cppn(evaluations=7), estimate_only=True)
    assert reason_name(failure.reason) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("parameters", "fields", "reason"),
    [
        (methods.UnitMaximization(layer="features.99", unit=UNIT), {}, "LAYER_NOT_FOUND"),
        (
            methods.ClassModel(target=STAR),
            {"canvas": pb.Canvas(height=1024, width=1024), "network": "nobody"},
            "NETWORK_NOT_FOUND",
        ),
        (methods.ClassModel(target=STAR, steps=100_000), {}, "WORK_TOO_LARGE"),
        (
            methods.Fooling(gradient=methods.FoolingGradient(steps=1)),
            {"canvas": pb.Canvas(height=1000, width=1000)},
            "RESPONSE_TOO_LARGE",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_too_much_or_not_there_has_its_own_reason(
    synthesizing: Any, parameters: Message, fields: dict[str, Any], reason: str
) -> None:
    assert reason_name(failed(synthesizing, parameters, **fields).reason) == reason


@pytest.mark.parametrize(
    ("parameters", "advice"),
    [
        (methods.ClassModel(target=STAR, steps=100_000), "ask for fewer steps ("),
        (
            methods.Inversion(
                layer="logits", code=numbers([1] * 10), reconstructions=16, steps=9000
            ),
            "ask for fewer steps or reconstructions (",
        ),
        (
            methods.Fooling(gradient=methods.FoolingGradient(steps=100_000)),
            "ask for fewer steps or targets (",
        ),
        (cppn(evaluations=500_000), "ask for fewer evaluations ("),
    ],
    ids=["class model", "inversion", "by gradient", "by evolution"],
)
def test_too_much_work_says_what_to_ask_for_fewer_of(
    synthesizing: Any, parameters: Message, advice: str
) -> None:
    assert advice in str(failed(synthesizing, parameters))


def test_checkpoints_are_not_trusted(synthesizing: Any) -> None:
    model = methods.ClassModel(target=STAR, steps=2)
    good = run(synthesizing, request(model))[-1].checkpoint
    for bad in (b"x", good[:-1], good[:40], b"\xff" * 64, bytes(100)):
        [violation] = failed(synthesizing, model, checkpoint=bad).violations
        assert violation.field == "checkpoint" and "damaged" in violation.description
    other = methods.ClassModel(target=Target(class_index=0), steps=2)
    [violation] = failed(synthesizing, other, checkpoint=good).violations
    assert "another question" in violation.description
    [violation] = failed(synthesizing, model, checkpoint=good, seed=1).violations
    assert "another question" in violation.description


def test_a_picture_that_is_none_is_told_so(synthesizing: Any) -> None:
    none = methods.Inversion(layer="features.2", image=Image(encoded=b"x"))
    failure = failed(synthesizing, none)
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"


def test_pixels_come_to_who_asks_for_them(synthesizing: Any) -> None:
    asked = request(methods.ClassModel(target=STAR, steps=2))
    asked.return_pixels = False
    [picture] = made_in(run(synthesizing, asked))
    assert picture.png and not picture.HasField("pixels")
