"""Explain and ExplainStream, over both engines: what comes back, in parts or at once."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from google.protobuf.message import Message

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import tensor_pb2
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.explanation_pb2_grpc import ExplanationServiceStub
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.images import Limits, prepare, read_image
from convlens.workers.network import ServedNetwork
from tests.e2e.test_bad_input import refusal, refused

SIDE = 128


@pytest.fixture(scope="module")
def explaining(channel: grpc.Channel) -> Any:
    return ExplanationServiceStub(channel)


@pytest.fixture(scope="module")
def network() -> ServedNetwork:
    return load_network(NetworkEntry(name="shapes"), "cpu")


def method(parameters: Any) -> ExplanationMethod:
    """A message of a method in the oneof that holds it."""
    fields: Any = ExplanationMethod.DESCRIPTOR.fields
    [name] = [field.name for field in fields if field.message_type is parameters.DESCRIPTOR]
    made = ExplanationMethod()
    getattr(made, name).CopyFrom(parameters)
    return made


def request(pictures: list[Path], *wanted: Message, **fields: Any) -> pb.ExplainRequest:
    images = [Image(encoded=picture.read_bytes()) for picture in pictures]
    return pb.ExplainRequest(images=images, methods=map(method, wanted), **fields)


def maps(response: pb.ExplainResponse) -> Iterator[np.ndarray[Any, Any]]:
    for result in response.results:
        for each in result.explanation.attributions:
            yield values(each.attribution.map)


def values(tensor: tensor_pb2.Tensor) -> np.ndarray[Any, Any]:
    kinds = {tensor_pb2.DATA_TYPE_FLOAT16: "<f2", tensor_pb2.DATA_TYPE_FLOAT32: "<f4"}
    return np.frombuffer(tensor.data, kinds[tensor.dtype]).reshape(tensor.shape)


def pixels(network: ServedNetwork, picture: Path) -> torch.Tensor:
    size = network.facts.input
    read = read_image(Image(encoded=picture.read_bytes()), Limits(), size)
    return prepare(read, size, Image().geometry, "shapes").tensor


def near(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    """Whether maps are equal but for rounding, which moves gradients at ties of a pooling."""
    largest = np.abs(expected).max()
    assert largest > 0, "nothing is compared"
    return found.shape == expected.shape and np.abs(found - expected).mean() < 1e-4 * largest


def test_saliency_is_the_gradient_of_the_prediction(
    explaining: Any, network: ServedNetwork, pictures: list[Path]
) -> None:
    response = explaining.Explain(request(pictures[:2], methods.Saliency()), timeout=30)
    for picture, result in zip(pictures, response.results, strict=False):
        [found] = result.explanation.attributions
        x = pixels(network, picture)[None].requires_grad_()
        scores = network.module(x)[0]
        scores.max().backward()
        assert x.grad is not None
        scores = scores.detach()
        expected = x.grad[0].abs().amax(dim=0).numpy()
        given = found.attribution
        assert near(values(given.map), expected)
        assert (given.target.class_index, given.target.label) == (
            int(scores.argmax()),
            picture.stem.partition("-")[0],
        )
        assert given.target.logit == pytest.approx(float(scores.max()), abs=1e-3)
        assert given.target.probability == pytest.approx(float(scores.softmax(0).max()), abs=1e-4)
        assert not found.HasField("target_index")
        assert (given.space, given.sign) == (pb.MAP_SPACE_INPUT_PIXELS, pb.MAP_SIGN_NON_NEGATIVE)
        assert given.quantity == "score per unit of pixel"
        assert (given.geometry.original_height, given.geometry.original_width) == (256, 256)


def test_every_method_for_every_target_of_every_image(
    explaining: Any, network: ServedNetwork, pictures: list[Path]
) -> None:
    wanted = (methods.Saliency(), methods.InputXGradient(), methods.SmoothGrad(samples=4))
    targets = [Target(rank=2), Target(label="heart"), Target(class_index=0)]
    asked = request(pictures[:2], *wanted, targets=targets)
    response = explaining.Explain(asked, timeout=30)
    for picture, result in zip(pictures, response.results, strict=False):
        scores = network.module(pixels(network, picture)[None])[0]
        second = int(scores.argsort(descending=True)[1])
        found = result.explanation.attributions
        assert [(each.method_index, each.target_index) for each in found] == [
            (m, t) for m in range(3) for t in range(3)
        ]
        heart = network.labels.index("heart")
        classes = [each.attribution.target.class_index for each in found]
        assert classes == [second, heart, 0] * 3


def test_the_receipt_has_every_parameter_and_the_cost(
    explaining: Any, pictures: list[Path]
) -> None:
    wanted = (methods.Saliency(), methods.SmoothGrad(samples=5), methods.IntegratedGradients())
    response = explaining.Explain(request(pictures[:2], *wanted, seed=7), timeout=30)
    receipt = response.receipt
    parameters = pb.ExplainRequest()
    assert receipt.parameters.Unpack(parameters)
    assert not parameters.images
    assert parameters.network == "shapes@1"
    assert parameters.methods[1].smooth_grad.noise == 0.15
    assert parameters.methods[2].integrated_gradients.max_steps == 432
    assert parameters.dtype == tensor_pb2.DATA_TYPE_FLOAT32
    assert (receipt.seed, receipt.rows, receipt.device_kind) == (7, 8, "cpu")
    steps = [result.explanation.attributions[2].attribution.samples for result in response.results]
    gradients = 2 * (1 + 5) + sum(steps)
    # The gradient of the prediction comes with the scores; of the baseline there are only scores.
    assert receipt.cost.backward_passes == gradients
    assert receipt.cost.forward_passes == gradients + 2
    most = response.estimated_cost
    assert (most.forward_passes, most.backward_passes) == (2 * (1 + 8 + 432), 2 * (6 + 432))


def test_nothing_is_computed_twice_for_a_picture(explaining: Any, pictures: list[Path]) -> None:
    wanted = (methods.Saliency(), methods.InputXGradient())
    whole = explaining.Explain(request(pictures[:1], *wanted), timeout=30)
    assert (whole.receipt.cost.forward_passes, whole.receipt.cost.backward_passes) == (1, 1)
    best = whole.results[0].explanation.attributions[0].attribution.target.class_index
    others = [Target(rank=3), Target(class_index=(best + 1) % 10), Target(class_index=best)]
    apart = explaining.Explain(request(pictures[:1], *wanted, targets=others), timeout=30)
    # The named ones come with the scores, the other afterwards.
    assert (apart.receipt.cost.forward_passes, apart.receipt.cost.backward_passes) == (2, 3)
    for found, expected in zip(maps(whole), list(maps(apart))[2::3], strict=True):
        assert np.array_equal(found, expected)
    # Occlusion's first pass brings its layer with the scores; then there are 4 x 4 windows.
    covered = methods.Occlusion(window=32, stride=32)
    for others in ([], [Target(class_index=3), Target(class_index=4)]):
        swept = explaining.Explain(request(pictures[:1], covered, targets=others), timeout=30)
        assert swept.receipt.cost.forward_passes == 1 + 16


def test_all_classes_of_a_picture_share_what_does_not_depend_on_the_class(
    explaining: Any, pictures: list[Path]
) -> None:
    sweep, noisy = methods.Occlusion(window=32, stride=32), methods.SmoothGrad(samples=3)
    every = [Target(class_index=index) for index in range(10)]
    whole = explaining.Explain(request(pictures[:1], sweep, noisy, targets=every), timeout=30)
    # The scores, sixteen windows and the clean picture, and three copies in two turns.
    cost = whole.receipt.cost
    assert cost.forward_passes <= 1 + 17 + 3 * 2
    assert cost.backward_passes <= 3 * 10 + 1
    for index in (0, 9):
        alone = request(pictures[:1], sweep, noisy, targets=[every[index]])
        for found, expected in zip(
            list(maps(whole))[index::10], maps(explaining.Explain(alone, timeout=30)), strict=True
        ):
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_patches_of_a_map_have_one_scale_whatever_their_picture(
    explaining: Any, pictures: list[Path]
) -> None:
    wanted = methods.Deconvnet(layer="features.7", map_index=2)
    asked = request(pictures[:3], wanted, rendering=pb.Rendering())
    found = [
        result.explanation.attributions[0].attribution.deconvnet.patches[0]
        for result in explaining.Explain(asked, timeout=30).results
    ]
    largest = [np.abs(np.frombuffer(each.reconstruction.data, "<f4")).max() for each in found]
    assert [each.scale for each in found] == [max(largest)] * 3
    assert len(set(largest)) == 3
    alone = request(pictures[:1], wanted, rendering=pb.Rendering())
    [other] = explaining.Explain(alone, timeout=30).results
    [patch] = other.explanation.attributions[0].attribution.deconvnet.patches
    assert patch.scale == largest[0]
    assert patch.reconstruction == found[0].reconstruction
    assert (patch.png == found[0].png) == (largest[0] == max(largest))


ONCE: dict[str, Any] = {
    "guided backprop": methods.GuidedBackprop(),
    "Grad-CAM": methods.GradCam(),
    "saliency": methods.Saliency(),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_method_that_needs_one_pass_takes_one(
    explaining: Any, pictures: list[Path], name: str
) -> None:
    alone = explaining.Explain(request(pictures[:1], ONCE[name]), timeout=30)
    assert (alone.receipt.cost.forward_passes, alone.receipt.cost.backward_passes) == (1, 1)
    [expected] = maps(alone)
    # Behind another method its pass is its own, and the map is the same.
    others = [other for other in ONCE.values() if other != ONCE[name]]
    *_, found = maps(explaining.Explain(request(pictures[:1], *others, ONCE[name]), timeout=30))
    assert np.array_equal(found, expected)


def test_the_cost_alone(explaining: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:3], methods.SmoothGrad(), targets=[Target(rank=1)] * 2)
    asked.estimate_only = True
    response = explaining.Explain(asked, timeout=30)
    assert (response.estimated_cost.forward_passes, response.estimated_cost.backward_passes) == (
        3 * (1 + 2 * 50),
        3 * 2 * 50,
    )
    assert not response.results and not response.HasField("receipt")
    [event] = explaining.ExplainStream(pb.ExplainStreamRequest(request=asked), timeout=30)
    assert event.done.estimated_cost == response.estimated_cost


# In short form among the mixed jobs of test_explain_company.
@pytest.mark.slow
def test_the_same_request_gives_the_same_bits_in_any_company(
    explaining: Any, pictures: list[Path]
) -> None:
    wanted = (
        methods.Saliency(),
        methods.SmoothGrad(samples=9),
        methods.IntegratedGradients(max_steps=48),
    )
    asked = [request([picture], *wanted, seed=3) for picture in pictures[:4]]
    alone = [list(maps(explaining.Explain(each, timeout=30))) for each in asked]
    futures = [explaining.Explain.future(each, timeout=60) for each in (*asked, *reversed(asked))]
    together = [list(maps(future.result())) for future in futures]
    for index in range(4):
        for found in (together[index], together[-1 - index]):
            assert all(map(np.array_equal, alone[index], found))
    # Others in the same request change the shape of a micro-batch, and with it the last bits.
    whole = list(maps(explaining.Explain(request(pictures[:4], *wanted, seed=3), timeout=60)))
    for found, expected in zip(whole, itertools.chain(*alone), strict=True):
        assert near(found, expected)


def test_float16_and_all_channels(explaining: Any, pictures: list[Path]) -> None:
    wanted = methods.Saliency(reduction=methods.CHANNEL_REDUCTION_NONE)
    whole = explaining.Explain(request(pictures[:1], wanted), timeout=30)
    half = explaining.Explain(
        request(pictures[:1], wanted, dtype=tensor_pb2.DATA_TYPE_FLOAT16), timeout=30
    )
    [expected], [found] = maps(whole), maps(half)
    assert expected.shape == (SIDE, SIDE, 3)
    assert found.dtype == np.float16
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    [result] = whole.results
    assert result.explanation.attributions[0].attribution.sign == pb.MAP_SIGN_SIGNED


def test_a_bad_image_is_alone_with_it(explaining: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:3], methods.Saliency())
    good = list(maps(explaining.Explain(asked, timeout=30)))
    asked.images[1].encoded = b"no picture"
    response = explaining.Explain(asked, timeout=30)
    failure = Failure.from_status(response.results[1].error)
    assert failure and reason_name(failure.reason) == "IMAGE_UNREADABLE"
    found = list(maps(response))
    assert len(found) == 2
    assert near(found[0], good[0]) and near(found[1], good[2])


def events(explaining: Any, asked: pb.ExplainRequest, **fields: Any) -> list[Any]:
    stream = pb.ExplainStreamRequest(request=asked, **fields)
    return list(explaining.ExplainStream(stream, timeout=60))


def test_a_stream_has_what_the_call_has(explaining: Any, pictures: list[Path]) -> None:
    wanted = (methods.Saliency(), methods.SmoothGrad(samples=12))
    asked = request(pictures[:3], *wanted, targets=[Target(rank=1), Target(rank=2)])
    asked.images[1].encoded = b"no picture"
    response = explaining.Explain(asked, timeout=30)
    *before, last = events(explaining, asked)
    assert last.done.receipt.parameters == response.receipt.parameters
    assert last.done.receipt.cost == response.receipt.cost
    assert last.done.estimated_cost == response.estimated_cost
    items = [event.item for event in before if event.HasField("item")]
    assert all(item.is_final for item in items)
    [error] = [item for item in items if item.HasField("error")]
    assert error.image_index == 1
    assert error.error == response.results[1].error
    for index in (0, 2):
        own = [item.result for item in items if item.image_index == index and item != error]
        own.sort(key=lambda each: (each.method_index, each.target_index))
        assert own == list(response.results[index].explanation.attributions)


def test_a_stream_tells_of_progress_and_of_maps_that_improve(
    explaining: Any, pictures: list[Path]
) -> None:
    asked = request(pictures[:1], methods.SmoothGrad(samples=60), methods.Saliency())
    found = events(explaining, asked, partial_items=True, min_interval_ms=0)
    progress = [event.progress for event in found if event.HasField("progress")]
    assert progress[-1].attributions == 2
    done = [each.attributions_done for each in progress]
    assert done == sorted(done) and done[0] < done[-1]
    costs = [each.cost.backward_passes for each in progress]
    assert costs == sorted(costs) and costs[0] < costs[-1] <= 61
    versions = [
        event.item.result.attribution
        for event in found
        if event.HasField("item") and event.item.result.method_index == 0
    ]
    samples = [version.samples for version in versions]
    assert samples == sorted(set(samples)) and samples[-1] == 60 and len(samples) > 3
    assert [version.is_partial for version in versions] == [True] * (len(samples) - 1) + [False]
    final = values(versions[-1].map)
    apart = [float(np.abs(values(each.map) - final).mean()) for each in versions]
    assert apart[0] > 2 * apart[-2] > 0, "each version is better than the first"
    errors = [version.error_estimate.absolute for version in versions]
    assert errors[-1] < errors[0]


def test_at_the_deadline_there_is_what_there_is(explaining: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:4], methods.Saliency(), methods.SmoothGrad(samples=1000))
    asked.allow_partial = True
    # A tenth of it is for the way back, which takes long on a machine with other work.
    response = explaining.Explain(asked, timeout=4)
    [saliency, smooth] = response.results[0].explanation.attributions
    assert not saliency.attribution.is_partial
    assert smooth.attribution.is_partial
    assert 2 <= smooth.attribution.samples < 1000
    assert np.abs(values(smooth.attribution.map)).max() > 0
    asked.allow_partial = False
    started = time.monotonic()
    with refused() as caught:
        explaining.Explain(asked, timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 3


def test_a_map_that_is_stable_is_done(explaining: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:1], methods.SmoothGrad(samples=1000), stable_share=0.6)
    responses = [explaining.Explain(asked, timeout=60) for _ in range(2)]
    [first, second] = [response.results[0].explanation.attributions[0] for response in responses]
    assert 8 <= first.attribution.samples < 1000
    assert not first.attribution.is_partial
    assert first == second, "when it ends does not depend on the time"


def test_callers_who_leave_are_not_worked_for(
    explaining: Any, pictures: list[Path], server: Any
) -> None:
    asked = request(pictures, methods.SmoothGrad(samples=1000))
    left = explaining.ExplainStream(pb.ExplainStreamRequest(request=asked), timeout=60)
    next(left)
    left.cancel()
    started = time.monotonic()
    explaining.Explain(request(pictures[:1], methods.Saliency()), timeout=30)
    assert time.monotonic() - started < 5


BAD: dict[str, tuple[Callable[[list[Path]], pb.ExplainRequest], str]] = {
    "samples": (
        lambda p: request(p, methods.SmoothGrad(samples=10_000)),
        "methods[0].smooth_grad.samples is 10000; must be at least 2 and at most 1000",
    ),
    "window": (
        lambda p: request(p, methods.Occlusion(window=129)),
        "methods[0].occlusion.window is 129; must be at most 128, the picture is 128 x 128 pixels",
    ),
    "stride": (
        lambda p: request(p, methods.Occlusion(stride=0)),
        "methods[0].occlusion.stride is 0; must be at least 1 and at most 1024",
    ),
    "gaps between windows": (
        lambda p: request(p, methods.Occlusion(window=8, stride=9)),
        "methods[0].occlusion.stride is 9; must be at most 8, the side of the window",
    ),
    "map": (
        lambda p: request(p, methods.Deconvnet(layer="features.7", map_index=9999)),
        "methods[0].deconvnet.map_index is 9999; must be below 48, the number of maps of "
        "'features.7'",
    ),
    "label": (
        lambda p: request(p, methods.Saliency(), targets=[Target(label="hart")]),
        "targets[0].label is 'hart', which is no label; did you mean heart",
    ),
    "class": (
        lambda p: request(p, methods.Saliency(), targets=[Target(rank=1), Target(class_index=10)]),
        "targets[1].class_index is 10; this network has the classes 0 to 9",
    ),
    "rank": (
        lambda p: request(p, methods.Saliency(), targets=[Target(rank=11)]),
        "targets[0].rank is 11; must be at most 10",
    ),
    "steps": (
        lambda p: request(p, methods.IntegratedGradients(steps=10, max_steps=9)),
        "methods[0].integrated_gradients.steps is 10; must be at most max_steps, which is 9",
    ),
    "baseline": (
        lambda p: request(
            p, methods.IntegratedGradients(baseline_image=Image(encoded=b"no picture"))
        ),
        "methods[0].integrated_gradients.baseline_image cannot be used: The image cannot be read",
    ),
    "too many maps": (
        lambda p: request(
            p * 8,
            *[methods.Saliency(reduction=methods.CHANNEL_REDUCTION_NONE)] * 16,
        ),
        "21 images at a time would fit",
    ),
    "too many passes": (
        lambda p: request(p * 8, methods.SmoothGrad(samples=1000), targets=[Target(class_index=0)]),
        "may need 128,064 passes of the network, and a call may have 100,000",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_refused_with_what_can(
    explaining: Any, pictures: list[Path], case: str
) -> None:
    make, words = BAD[case]
    failure = refusal(lambda: explaining.Explain(make(pictures[:8]), timeout=30))
    assert words in str(failure)
