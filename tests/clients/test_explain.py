"""What the SDK sends for explanations, and what it makes of the answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import (
    Attribution,
    Box,
    DeconvnetDetails,
    Explanation,
    FailedPrecondition,
    Internal,
    InvalidImage,
    InvalidRequest,
    NotFound,
    OcclusionDetails,
    methods,
)
from convlens.client.methods import (
    Activations,
    Completeness,
    Deconvnet,
    Deletion,
    Filters,
    GradCam,
    IntegratedGradients,
    Localization,
    Occlusion,
    PointingGame,
    Rank,
    Rendering,
    Saliency,
    SmoothGrad,
    Target,
    TrueRegion,
)
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import geometry_pb2, quality_pb2, tensor_pb2

FLOAT32 = tensor_pb2.DATA_TYPE_FLOAT32
NOT_APPLICABLE = Failure(
    ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE, layer="fc", network="pets@1", detail="no maps"
)


def test_a_map_says_what_it_is(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("explain", b"x", Saliency())
    assert isinstance(found, Explanation) and len(found) == 1
    saliency: Any = found[0]
    assert Attribution is type(saliency)
    assert (saliency.method, saliency.name) == ("Saliency", "saliency")
    assert (saliency.target.label, saliency.target.index) == ("cat", 0)
    assert saliency.target.probability == pytest.approx(0.9)
    assert saliency.map.shape == (32, 32) and saliency.map.dtype == np.float32
    assert saliency.map.min() >= 0 and saliency.map.max() > 0
    assert not saliency.map.flags.writeable
    assert (saliency.space, saliency.sign) == ("input_pixels", "non_negative")
    assert saliency.geometry.crop == Box(0, 0, 32, 32)
    assert saliency.error is None and not saliency.is_partial
    assert saliency.receipt is found.receipt and found.receipt.network == "pets"
    assert found.estimated_cost.backward_passes == 1
    assert repr(saliency) == "<Saliency of cat 90.0 %, [32, 32] non_negative>"
    assert repr(found) == f"<Explanation of pets@1: {saliency!r}>"


def test_what_is_sent(connect: Any, server: FakeServer) -> None:
    connect(server.address).call(
        "explain",
        b"x",
        [Saliency(), Occlusion(window=16)],
        targets=[3 - 2, "cat", Rank(2), Target(class_index=0), np.int64(1)],
        dtype="float16",
        rendering="overlay",
        localization="threshold",
        measures=[Deletion(steps=8), Completeness()],
        true_regions=(1, 2, 3, 4),
        seed=7,
        stable_share=0.5,
        allow_partial=True,
        network="pets@1",
        geometry="as_is",
    )
    [sent] = server.requests
    assert list(sent.message.methods) == [
        methods.ExplanationMethod(saliency=Saliency()),
        methods.ExplanationMethod(occlusion=Occlusion(window=16)),
    ]
    assert list(sent.message.targets) == [
        Target(class_index=1),
        Target(label="cat"),
        Target(rank=2),
        Target(class_index=0),
        Target(class_index=1),
    ]
    assert sent.message.dtype == tensor_pb2.DATA_TYPE_FLOAT16
    assert sent.message.rendering == Rendering(style=pb.RENDERING_STYLE_OVERLAY)
    threshold = quality_pb2.LOCALIZATION_METHOD_THRESHOLD
    assert sent.message.localization == Localization(method=threshold)
    assert list(sent.message.measures) == [
        methods.QualityMeasure(deletion=Deletion(steps=8)),
        methods.QualityMeasure(completeness=Completeness()),
    ]
    box = geometry_pb2.Box(left=1, top=2, right=3, bottom=4)
    assert list(sent.message.true_regions) == [TrueRegion(box=box)]
    assert (sent.message.seed, sent.message.stable_share) == (7, 0.5)
    assert sent.message.allow_partial and not sent.message.estimate_only
    assert sent.message.network == "pets@1"


def test_what_is_left_out_is_left_to_the_server(connect: Any, server: FakeServer) -> None:
    connect(server.address).call("explain", b"x", Saliency())
    [sent] = server.requests
    bare = pb.ExplainRequest(
        images=sent.message.images, methods=[methods.ExplanationMethod(saliency=Saliency())]
    )
    assert sent.message == bare


def test_true_regions(connect: Any, server: FakeServer) -> None:
    mask = np.array([[False, True], [True, True]])
    regions = [(0, 0, 1, 1), None, mask]
    client = connect(server.address)
    client.call("explain", [b"x"] * 3, Saliency(), true_regions=regions)
    client.call("explain", b"x", Saliency(), true_regions=mask)
    first, second = (request.message.true_regions for request in server.requests)
    assert first[1] == TrueRegion() and first[0].box.right == 1
    assert first[2].mask.data == bytes([0, 1, 1, 1]) == second[0].mask.data
    assert list(first[2].mask.shape) == [2, 2]
    assert first[2].mask.dtype == tensor_pb2.DATA_TYPE_UINT8


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (Saliency, {}, r"methods has the class Saliency; write Saliency\(\)"),
        ("saliency", {}, "methods has a str; it must be one of Saliency, InputXGradient, Smo"),
        (Deletion(), {}, "methods has a Deletion; it must be one of Saliency"),
        ([Saliency(), None], {}, "methods has a NoneType"),
        (None, {}, "methods has a NoneType"),
        ([], {}, "methods has 0 entries; must have at least 1"),
        (Saliency(), {"targets": 1.5}, "A target is a float; it must be the index of a class"),
        (Saliency(), {"targets": [True]}, "A target is a bool"),
        (
            Saliency(),
            {"targets": [0, -1]},
            "class_index is -1; must be at least 0 and at most 4294967295",
        ),
        (Saliency(), {"targets": Rank(0)}, "rank is 0; must be at least 1"),
        (Saliency(), {"targets": "newt"}, "there are 0 to 1: cat, dog"),
        (Saliency(), {"dtype": "double"}, "dtype is 'double'; it must be one of float32, float16"),
        (Saliency(), {"rendering": "nice"}, "rendering is 'nice'; it must be one of heat_map, ov"),
        (Saliency(), {"localization": True}, "localization is True; it must be one of threshold"),
        (Saliency(), {"measures": [Saliency()]}, "measures has a Saliency; it must be one of Del"),
        (Saliency(), {"true_regions": [5]}, "A true region must be a box"),
        (Saliency(), {"true_regions": np.zeros(3)}, "A true region must be a box"),
        (Saliency(), {"stable_share": 2}, "stable_share is 2; must be at least 0 and at most 1"),
        (Saliency(), {"seed": -1}, f"seed is -1; must be at least 0 and at most {2**64 - 1}"),
        (Saliency(), {"seed": 2**64}, f"seed is {2**64}; must be at least 0 and at most"),
        (Saliency(), {"seed": "7"}, "The request is not valid: "),
        (Saliency(), {"on_error": "skip"}, "on_error is 'skip'"),
    ],
)
def test_wrong_questions(connect: Any, server: FakeServer, given, options, words) -> None:
    client = connect(server.address)
    with pytest.raises(InvalidRequest, match=words):
        client.call("explain", b"x", given, **options)
    with pytest.raises(InvalidRequest, match=words):
        list(client.stream(b"x", given, method="explain_stream", **options))


def test_an_unknown_option_is_a_type_error(connect: Any, server: FakeServer) -> None:
    with pytest.raises(TypeError, match="target"):
        connect(server.address).call("explain", b"x", Saliency(), target="cat")


def test_a_list_and_its_errors(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    images = [b"x", b"", "missing.png", b"y"]
    found = client.call("explain", images, Saliency(), on_error="return")
    assert isinstance(found[0], Explanation) and isinstance(found[3], Explanation)
    assert isinstance(found[1], InvalidImage) and found[1].index == 1
    assert isinstance(found[2], InvalidImage) and "missing.png" in str(found[2])
    assert not np.array_equal(found[0][0].map, found[3][0].map)
    with pytest.raises(InvalidImage, match="item 1"):
        client.call("explain", [b"x", b""], Saliency())


def failing_second(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """The first method answers, the second does not apply."""
    with_answer = pb.Attribution(map=tensor_pb2.Tensor(dtype=FLOAT32, shape=[1, 1], data=bytes(4)))
    entries = [
        pb.AttributionResult(method_index=0, attribution=with_answer),
        pb.AttributionResult(method_index=1, target_index=0, error=NOT_APPLICABLE.status()),
    ]
    result = pb.ExplainResult(explanation=pb.Explanation(attributions=entries))
    return pb.ExplainResponse(results=[result])


def test_a_method_that_fails_does_not_fail_the_image(connect: Any, tmp_path: Path) -> None:
    with FakeServer({"Explain": failing_second}) as server:
        client = connect(server.address)
        found = client.call("explain", b"x", [Saliency(), GradCam(layer="fc")], targets="cat")
    assert found[Saliency].map.tolist() == [[0]]
    failed = found["grad_cam", "cat"]
    assert isinstance(failed.error, FailedPrecondition)
    assert failed.method == "Grad-CAM" and failed.target is None
    assert failed.parameters == GradCam(layer="fc")
    assert repr(failed) == f"<Grad-CAM: {failed.error}>"
    assert failed._repr_png_() is None
    for look in (lambda: failed.map, failed.image, lambda: failed.save(tmp_path / "a.npy")):
        with pytest.raises(FailedPrecondition, match="no maps"):
            look()
    assert list(tmp_path.iterdir()) == []


def test_indexing(connect: Any, server: FakeServer) -> None:
    asked = [Saliency(), GradCam(), Deconvnet(layer="a")]
    found = connect(server.address).call("explain", b"x", asked, targets=["cat", Rank(2)])
    first = found[0]
    assert len(found) == len(found.attributions) == 5
    for key in (("saliency", "cat"), (Saliency, 0), ("Saliency", Target(label="cat"))):
        assert found[key] is first
    assert found["Grad-CAM", "dog"] is found["gradcam", Rank(2)] is found[GradCam, 1] is found[3]
    assert found[Deconvnet] is found["deconvnet"] is found[-1]
    assert found.attributions.of("saliency") == (found[0], found[1])
    assert list(found) == list(found.attributions)
    with pytest.raises(KeyError, match=r"'saliency' has 2 answers.*name the target too"):
        found["saliency"]
    with pytest.raises(KeyError, match="Occlusion has no answer here; there are: <Saliency of c"):
        found[Occlusion]
    with pytest.raises(KeyError, match="Saliency, 'newt' has no answer"):
        found[Saliency, "newt"]
    with pytest.raises(IndexError):
        found[5]


def test_without_targets_the_prediction_has_rank_1(connect: Any, server: FakeServer) -> None:
    found = connect(server.address).call("explain", b"x", Saliency())
    assert found["saliency"] is found["saliency", Rank(1)] is found["saliency", "cat"]
    assert found["saliency"].asked_target is None
    assert found.attributions.of("saliency", Rank(2)) == ()


def test_details(connect: Any, server: FakeServer) -> None:
    asked = [
        IntegratedGradients(),
        Occlusion(stride=16),
        Deconvnet(layer="a", strongest=2),
        Activations(layer="a", count=3),
        Filters(layer="a", count=2),
    ]
    found = connect(server.address).call("explain", b"x", asked, rendering="heat_map")
    integral, occlusion, deconvnet, activations, filters = found
    assert integral.details.converged and integral.error_estimate.kind == "completeness"
    assert isinstance(occlusion.details, OcclusionDetails)
    assert occlusion.details.probability.shape == (2, 2)
    assert occlusion.details.predicted_class.dtype == np.int64
    assert occlusion.details.center_rows == (8, 24)
    assert isinstance(deconvnet.details, DeconvnetDetails)
    assert deconvnet.target is None and deconvnet.sign == "reconstruction"
    patch = deconvnet.details.patches[1]
    assert patch.position == (1, 2) and patch.receptive_field == Box(0, 0, 16, 16)
    assert patch.reconstruction.shape == patch.input_patch.shape == (16, 16, 3)
    assert patch._repr_png_() == patch.png != b""
    assert [part.map_index for part in activations.parts] == [0, 1, 2]
    assert filters.parts[0].weights.shape == (3, 5, 5)
    with pytest.raises(LookupError, match="Filters has no map of its own; its numbers are in det"):
        _ = filters.map


def test_scores_and_regions(connect: Any, server: FakeServer) -> None:
    measures = [Deletion(steps=4), PointingGame()]
    found = connect(server.address).call(
        "explain", b"x", Saliency(), measures=measures, localization="grabcut"
    )
    deletion, pointing = found[0].scores
    assert (deletion.measure, deletion.name) == ("Deletion", "deletion")
    assert len(deletion.curve) == 5 and 0 <= deletion.score <= 1
    assert deletion.parameters.fill == methods.Fill.FILL_MEAN
    assert pointing.measure == "Pointing game" and pointing.error is None
    region = found[0].region
    left, top, right, bottom = map(int, region.box)
    assert region.mask.shape == (32, 32) and region.mask.dtype == np.uint8
    assert region.mask[top:bottom, left:right].all()


def test_a_measure_that_does_not_fit_has_its_error(connect: Any) -> None:
    def answer(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = failing_second(request)
        scores = response.results[0].explanation.attributions[0].attribution.scores
        scores.add(measure=request.measures[0], error=NOT_APPLICABLE.status())
        return response

    with FakeServer({"Explain": answer}) as server:
        asked = [Saliency(), GradCam()]
        [score] = (
            connect(server.address)
            .call("explain", b"x", asked, targets=0, measures=PointingGame())[0]
            .scores
        )
    assert score.score is None and isinstance(score.error, FailedPrecondition)


def test_the_servers_picture_is_taken_as_it_is(
    connect: Any, server: FakeServer, tmp_path: Path
) -> None:
    found = connect(server.address).call("explain", b"x", Saliency(), rendering="heat_map")[0]
    assert found.png.startswith(b"\x89PNG")
    assert found._repr_png_() == found.png
    found.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == found.png
    assert found.image().size == (128, 128)


def test_numbers_are_saved(connect: Any, server: FakeServer, tmp_path: Path) -> None:
    asked = [Saliency(), Activations(layer="a")]
    saliency, activations = connect(server.address).call("explain", b"x", asked)
    saliency.save(tmp_path / "a.npy")
    activations.save(str(tmp_path / "b.NPY"))
    assert np.array_equal(np.load(tmp_path / "a.npy"), saliency.map)
    assert np.load(tmp_path / "b.NPY").shape == (4, 8, 8)
    with pytest.raises(ValueError, match=r"must end in \.png or \.npy"):
        saliency.save(tmp_path / "a.jpg")
    for name in ("a.png", "a.npy"):
        with pytest.raises(FileNotFoundError, match=f"There is no folder '.*gone' to .*{name}"):
            saliency.save(tmp_path / "gone" / name)


def answering(values: Any, sign: pb.MapSign.ValueType) -> pb.ExplainResponse:
    numbers = np.array(values, "<f4")
    tensor = tensor_pb2.Tensor(dtype=FLOAT32, shape=numbers.shape, data=numbers.tobytes())
    entry = pb.AttributionResult(attribution=pb.Attribution(map=tensor, sign=sign))
    result = pb.ExplainResult(explanation=pb.Explanation(attributions=[entry]))
    return pb.ExplainResponse(results=[result])


@pytest.mark.parametrize(
    ("values", "sign", "colors"),
    [
        ([[0, 2], [1, 2]], pb.MAP_SIGN_NON_NEGATIVE, {0: (0, 0, 0), 1: (255, 255, 255)}),
        ([[0, 2], [-2, 2]], pb.MAP_SIGN_SIGNED, {0: (255,) * 3, 1: (255, 0, 0), 2: (0, 0, 255)}),
        (
            [[0, 2], [-2, 2]],
            pb.MAP_SIGN_RECONSTRUCTION,
            {0: (128,) * 3, 1: (255,) * 3, 2: (0,) * 3},
        ),
        ([[[0, 0, 0], [2, 0, 0]]], pb.MAP_SIGN_RECONSTRUCTION, {1: (255, 128, 128)}),
        ([[[0, 0, 0], [2, -2, -3]]], pb.MAP_SIGN_SIGNED, {0: (255,) * 3, 1: (0, 0, 255)}),
        ([[[0, 0], [2, 2]]], pb.MAP_SIGN_NON_NEGATIVE, {0: (0, 0, 0), 1: (255, 255, 255)}),
        ([[0, 0], [0, 0]], pb.MAP_SIGN_NON_NEGATIVE, {0: (0, 0, 0)}),
        ([[0, 0], [0, 0]], pb.MAP_SIGN_SIGNED, {0: (255, 255, 255)}),
    ],
)
def test_without_the_servers_picture_a_plain_one_is_drawn(
    connect: Any, values: Any, sign: pb.MapSign.ValueType, colors: dict[int, Any]
) -> None:
    with FakeServer({"Explain": answering(values, sign)}) as server:
        found = connect(server.address).call("explain", b"x", Saliency())[0]
    image = found.image()
    height, width = np.shape(values)[:2]
    assert max(image.size) == 128
    side = image.width // width
    for number, color in colors.items():
        row, column = divmod(number, width)
        assert image.getpixel((column * side, row * side)) == color
        assert image.getpixel((column * side + side - 1, row * side + side - 1)) == color
    assert image.height == height * side


def test_many_pictures_of_one_answer_are_one_sheet(connect: Any, server: FakeServer) -> None:
    asked = [Deconvnet(layer="a"), Activations(layer="a"), Filters(layer="a")]
    found = connect(server.address).call("explain", b"x", asked)
    for answer in found:
        assert min(answer.image().size) > 2 * 128
        for part in answer.parts:
            assert isinstance(part.image(), Image.Image)


def test_the_same_question_has_the_same_answer(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    one, same, other = (
        client.call("explain", b"x", SmoothGrad(), seed=seed)[0].map for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_an_unknown_network(connect: Any, server: FakeServer) -> None:
    with pytest.raises(NotFound, match="No network zoo is served"):
        connect(server.address).call("explain", b"x", Saliency(), network="zoo")


def test_the_estimate(connect: Any, server: FakeServer) -> None:
    cost = connect(server.address).call("estimate", [b"x", b"y"], SmoothGrad(samples=10), targets=0)
    assert (cost.forward_passes, cost.backward_passes) == (20, 20)
    assert server.requests[0].message.estimate_only


@pytest.mark.parametrize(
    "entry",
    [
        pb.AttributionResult(method_index=1, attribution=pb.Attribution()),
        pb.AttributionResult(target_index=1, attribution=pb.Attribution()),
        pb.AttributionResult(attribution=pb.Attribution(map=tensor_pb2.Tensor(shape=[1]))),
    ],
)
def test_an_answer_that_makes_no_sense(connect: Any, entry: pb.AttributionResult) -> None:
    result = pb.ExplainResult(explanation=pb.Explanation(attributions=[entry]))
    answer = pb.ExplainResponse(results=[result])
    with FakeServer({"Explain": answer}) as server, pytest.raises(Internal):
        connect(server.address).call("explain", b"x", Saliency())


def test_all_methods_of_the_contract_can_be_asked_for(connect: Any, server: FakeServer) -> None:
    kinds: list[Any] = [methods.ExplanationMethod.DESCRIPTOR, methods.QualityMeasure.DESCRIPTOR]
    for kind in kinds:
        assert {field.message_type.name for field in kind.fields} < set(methods.__all__)
    asked = []
    for field in kinds[0].fields:
        cls = getattr(methods, field.message_type.name)
        asked.append(cls(layer="a") if "layer" in field.message_type.fields_by_name else cls())
    found = connect(server.address).call("explain", b"x", asked)
    assert [type(entry.parameters).__name__ for entry in found] == [
        type(entry).__name__ for entry in asked
    ]
    for entry in found:
        assert entry.image().size
