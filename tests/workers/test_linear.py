"""Linear classifiers of plain numbers: the lecture's worked example, and what they refuse."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import network_pb2, tensor_pb2
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyResponse
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.explanation_pb2 import ExplainRequest, ExplainResponse
from convlens.v1.feature_pb2 import (
    ExtractFeaturesRequest,
    ExtractFeaturesResponse,
    LayerSelection,
)
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from convlens.workers.catalog import load_network
from convlens.workers.check import Workers, check_network
from convlens.workers.config import ConfigError, load_config
from convlens.workers.explain.plans import PLANNERS
from convlens.workers.network import ServedNetwork

X = [2.0, -1.0, 3.0, -2.0, 2.0, 2.0, 1.0, -4.0, 5.0, 1.0]
W = [-1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]
MOVED = [1.5, -1.5, 3.5, -2.5, 2.5, 1.5, 1.5, -3.5, 4.5, 1.5]
WEIGHTS = {"weight": torch.tensor([W])}
ENTRY = "networks: [{name: lecture, builder: linear, weights: w.safetensors%s}]"
# Each finds a change of the lecture's vector; 3 is its way to the boundary, along the weights.
ATTACKS: dict[str, methods.AttackMethod] = {
    "fgsm": methods.AttackMethod(fgsm=methods.FGSM(epsilon=0.5)),
    "pgd": methods.AttackMethod(pgd=methods.PGD(epsilon=0.5, steps=10, relative_step_size=0.2)),
    "apgd": methods.AttackMethod(apgd=methods.APGD(epsilon=0.5, steps=10)),
    "deep_fool": methods.AttackMethod(deep_fool=methods.DeepFool()),
    "carlini_wagner": methods.AttackMethod(
        carlini_wagner=methods.CarliniWagner(search_steps=4, steps=100, initial_c=1)
    ),
    "lbfgs": methods.AttackMethod(lbfgs=methods.LBFGS()),
    "square": methods.AttackMethod(square=methods.Square(epsilon=1, queries=200)),
    "auto_attack": methods.AttackMethod(
        auto_attack=methods.AutoAttack(epsilon=0.5, steps=10, queries=50)
    ),
}

Load = Callable[..., ServedNetwork]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the network of some tensors, with what else is said in its entry."""

    def made(tensors: dict[str, torch.Tensor], more: str = "") -> ServedNetwork:
        save_file(tensors, tmp_path / "w.safetensors")
        (tmp_path / "networks.yaml").write_text(ENTRY % more)
        [entry] = load_config(tmp_path / "networks.yaml").networks
        return load_network(entry, "cpu")

    return made


@pytest.fixture
def serve(load: Load) -> Iterator[Callable[..., Workers]]:
    """Workers of both pools of such a network."""
    started: list[Workers] = []

    def made(tensors: dict[str, torch.Tensor], more: str = "") -> Workers:
        workers = Workers(load(tensors, more))
        started.append(workers)
        workers.start("inference")
        workers.start("analysis")
        return workers

    yield made
    for workers in started:
        workers.close()


def vector(values: object) -> Image:
    array = np.asarray(values)
    dtype = tensor_pb2.DATA_TYPE_UINT8 if array.dtype == np.uint8 else tensor_pb2.DATA_TYPE_FLOAT32
    data = array if array.dtype == np.uint8 else array.astype("<f4")
    tensor = tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=data.tobytes())
    return Image(tensor=tensor)


def classify(workers: Workers, *images: Image) -> ClassifyResponse:
    request = ClassifyRequest(images=images).SerializeToString()
    body = workers.ask("inference", "ClassificationService/Classify", request)
    return ClassifyResponse.FromString(body)


def attack(workers: Workers, image: Image, method: str = "fgsm", **fields: Any) -> pb.AttackVerdict:
    request = pb.AttackRequest(images=[image], method=ATTACKS[method], **fields)
    body = workers.ask("analysis", "AdversarialService/Attack", request.SerializeToString())
    [result] = pb.AttackResponse.FromString(body).results
    if result.HasField("error"):
        failure = Failure.from_status(result.error)
        assert failure
        raise failure
    return result.verdict


def numbers(tensor: tensor_pb2.Tensor) -> list[float]:
    assert tensor.dtype == tensor_pb2.DATA_TYPE_FLOAT32 and len(tensor.shape) == 1
    return cast("list[float]", np.frombuffer(tensor.data, "<f4").tolist())


def test_the_lecture_in_numbers(serve: Any) -> None:
    workers = serve(WEIGHTS)
    [result] = classify(workers, vector(X)).results
    other, one = result.classification.classes
    assert (other.class_index, other.logit) == (0, 0)
    assert (one.class_index, one.logit) == (1, -3)
    assert one.probability == pytest.approx(0.0474, abs=5e-5)
    verdict = attack(workers, vector(X))
    assert verdict.status == pb.ATTACK_STATUS_SUCCEEDED
    assert numbers(verdict.pixels) == MOVED, "exactly"
    assert verdict.after[0].class_index == 1
    assert verdict.after[0].probability == pytest.approx(0.88, abs=1e-3)
    assert verdict.distance.linf == 0.5 and verdict.distance.l0 == 10
    [again] = classify(workers, vector(MOVED)).results
    assert again.classification.classes[0].probability == pytest.approx(
        verdict.after[0].probability, abs=1e-6
    )


def test_a_verdict_on_numbers_has_no_picture(serve: Any) -> None:
    verdict = attack(serve(WEIGHTS), vector(X))
    assert (verdict.png, verdict.original_png) == (b"", b"")
    assert verdict.rounded_status == pb.ROUNDED_STATUS_NOT_APPLICABLE
    assert not verdict.after_rounding and not verdict.HasField("rounded_distance")


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_works_without_bounds(serve: Any, name: str) -> None:
    workers = serve(WEIGHTS)
    # Moved far off the range of pixels along the boundary, which changes no score.
    far = np.asarray(X, np.float32)
    far[[0, 1]] += (64, -64)
    for goal in (None, pb.AttackGoal(target=Target(class_index=1))):
        verdict = attack(workers, vector(far), name, goal=goal)
        assert verdict.status == pb.ATTACK_STATUS_SUCCEEDED
        found = np.asarray(numbers(verdict.pixels))
        assert (found - far) @ np.asarray(W) > 3, "it is over the boundary"
        assert np.abs(found - far).max() < 8, "and was not clamped to [0, 1]"


def test_the_nearest_change_is_the_one_to_the_plane(serve: Any) -> None:
    workers = serve(WEIGHTS)
    for name in ("deep_fool", "carlini_wagner", "lbfgs"):
        verdict = attack(workers, vector(X), name)
        assert verdict.distance.l2 == pytest.approx(3 / np.sqrt(10), rel=0.03), name


def test_several_rows_are_a_softmax(serve: Any) -> None:
    rows, bias = torch.randn(4, 6, generator=torch.manual_seed(0)), torch.tensor([0.0, 1, 2, 3])
    workers = serve({"weight": rows, "bias": bias}, ", labels: [a, b, c, d]")
    x = torch.linspace(-300, 300, 6)
    [result] = classify(workers, vector(x)).results
    scores = rows.double() @ x.double() + bias
    best = result.classification.classes[0]
    assert best.label == "abcd"[int(scores.argmax())]
    for found in result.classification.classes:
        expected = float(scores[found.class_index])
        assert found.logit == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_a_bias_of_one_row_moves_the_second_class(serve: Any) -> None:
    workers = serve({**WEIGHTS, "bias": torch.tensor([3.0])}, ", labels: [minus, plus]")
    [result] = classify(workers, vector(X)).results
    assert [each.logit for each in result.classification.classes] == [0, 0]


def test_halves_and_prefixes_are_read_as_of_any_network(load: Any) -> None:
    network = load({"module.weight": torch.tensor([W]).half()})
    assert network.module.body.linear.weight.dtype == torch.float32
    assert network.logits(torch.tensor(X).view(1, 1, 1, 10)).tolist() == [[0, -3]]


def test_what_is_told_of_it(load: Any) -> None:
    facts = load(WEIGHTS).facts
    assert facts.kind == network_pb2.NETWORK_KIND_LINEAR
    assert (facts.input.channels, facts.input.height, facts.input.width) == (1, 1, 10)
    assert list(facts.labels) == ["class 0", "class 1"]
    assert facts.anatomy.grammar == "INPUT -> FC"
    assert [layer.name for layer in facts.anatomy.layers] == ["flatten", "linear"]
    assert not any(layer.supports_deconvnet for layer in facts.anatomy.layers)


def test_its_layers_are_read_as_those_of_any_network(serve: Any) -> None:
    layers = [LayerSelection(layer=name) for name in ("flatten", "linear", "logits")]
    request = ExtractFeaturesRequest(images=[vector(X)], layers=layers)
    body = serve(WEIGHTS).ask(
        "inference", "FeatureService/ExtractFeatures", request.SerializeToString()
    )
    [result] = ExtractFeaturesResponse.FromString(body).results
    assert [numbers(code.values) for code in result.features.codes] == [X, [0, -3], [0, -3]]


BAD_INPUTS: dict[str, tuple[Image, str]] = {
    "a file": (Image(encoded=b"\x89PNG"), "the network takes plain numbers and no picture"),
    "too short": (vector(X[:9]), "its shape is [9]"),
    "too long": (vector([*X, 1.0]), "its shape is [11]"),
    "a row": (vector([X]), "its shape is [1, 10]"),
    "a picture": (vector(np.zeros((1, 10, 1))), "its shape is [1, 10, 1]"),
    "bytes": (vector(np.zeros(10, np.uint8)), "its dtype is DATA_TYPE_UINT8"),
    "NaN": (vector([*X[:9], np.nan]), "it holds NaN or infinite values"),
    "infinite": (vector([*X[:9], -np.inf]), "it holds NaN or infinite values"),
    "cut off": (
        Image(tensor=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[10], data=b"12")),
        "it has 2 bytes where shape [10] takes 40",
    ),
}


def test_what_is_no_vector_is_refused_alone(serve: Any) -> None:
    workers = serve(WEIGHTS)
    images = [image for image, _ in BAD_INPUTS.values()]
    *failed, answered = classify(workers, *images, vector(X)).results
    assert answered.HasField("classification")
    for result, (_, detail) in zip(failed, BAD_INPUTS.values(), strict=True):
        failure = Failure.from_status(result.error)
        assert failure and reason_name(failure.reason) == "TENSOR_INVALID"
        assert failure.metadata == {
            "detail": detail,
            "wanted": "float32 of shape [10], any finite numbers",
        }
    with pytest.raises(Failure, match=r"its shape is \[9\]. Send float32 of shape \[10\]"):
        attack(workers, vector(X[:9]))


def test_a_vector_is_no_picture() -> None:
    [entry] = load_config(None).networks
    workers = Workers(load_network(entry, "cpu"))
    workers.start("inference")
    [result] = classify(workers, vector(X)).results
    workers.close()
    assert "its shape is [10]. Send uint8, or float32 in [0, 1]" in result.error.message


@pytest.mark.parametrize("field", ["until_rounded_succeeds", "through_resize"])
def test_what_only_pictures_have_is_refused(serve: Any, field: str) -> None:
    words = f"{field}.* is for pictures, and lecture@1 takes plain numbers; leave it out"
    with pytest.raises(Failure, match=words):
        attack(serve(WEIGHTS), vector(X), "fgsm", **{field: True})


def test_no_method_of_explain_applies(serve: Any) -> None:
    given = []
    for name in PLANNERS:
        method = ExplanationMethod()
        getattr(method, name).SetInParent()
        given.append(method)
    request = ExplainRequest(images=[vector(X)], methods=given)
    body = serve(WEIGHTS).ask("analysis", "ExplanationService/Explain", request.SerializeToString())
    [result] = ExplainResponse.FromString(body).results
    assert len(result.explanation.attributions) == len(given)
    for each in result.explanation.attributions:
        assert "lecture@1: it takes plain numbers, and maps are of pictures" in each.error.message


BAD_WEIGHTS: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "no weight": ({"w": torch.zeros(1, 3)}, r"has w \[1, 3\]; must have a weight of shape"),
    "a vector": ({"weight": torch.zeros(3)}, r"has weight \[3\]; must have a weight of shape"),
    "no feature": ({"weight": torch.zeros(2, 0)}, r"has weight \[2, 0\]; must have a weight"),
    "another bias": (
        {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)},
        r"1 of another shape: bias is \[3\] in the file, \[2\] in the network",
    ),
    "another tensor": (
        {"weight": torch.zeros(2, 3), "scale": torch.zeros(3)},
        "1 unexpected: scale",
    ),
    "integers": ({"weight": torch.zeros(2, 3, dtype=torch.int64)}, "weight is int64 in the file"),
    "NaN": ({"weight": torch.full((2, 3), np.nan)}, "has values that are no finite float32"),
    "too large": (
        {"weight": torch.full((2, 3), 1e39, dtype=torch.float64)},
        "has values that are no finite float32",
    ),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_make_no_linear_classifier(load: Any, case: str) -> None:
    tensors, words = BAD_WEIGHTS[case]
    with pytest.raises(ConfigError, match=words) as caught:
        load(tensors)
    assert "networks.yaml:1: lecture@1: weights: " in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (", labels: [a]", "labels: there are 1 labels and the network scores 2 classes"),
        (", arguments: {a: 1}", "arguments: a linear network takes none; leave them out"),
        (", input: {size: 3}", "input: is for pictures; leave it out for linear"),
        (", path: .", "path: is for modules of one's own; leave it out for linear"),
    ],
)
def test_mistakes_in_its_entry(load: Any, more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(WEIGHTS, more)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "weights: must be given: a file"),
        (", weights: random", "weights: is 'random'; must be a file"),
        (", weights: gone.pth", "weights: there is no file"),
    ],
)
def test_it_needs_a_file_of_weights(tmp_path: Path, entry: str, words: str) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text(f"networks: [{{name: a, builder: linear{entry}}}]")
    with pytest.raises(ConfigError, match=words):
        load_config(file)


def test_it_passes_the_check_of_networks(load: Any, tmp_path: Path) -> None:
    load(WEIGHTS)
    [entry] = load_config(tmp_path / "networks.yaml").networks
    report = check_network(entry)
    assert report.ok, report.steps
    assert {step.detail for step in report.steps if step.name == "Classify"} == {
        "zeros: class 0 50.0 %"
    }
