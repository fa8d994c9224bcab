"""The main job: pictures go in over gRPC, classifications come out."""

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from PIL import Image as PILImage

from convlens.contract import digest, with_defaults
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import GEOMETRY_AS_IS, Image
from convlens.v1.network_pb2 import GetNetworkRequest, ListNetworksRequest
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from convlens.v1.receipt_pb2 import PRECISION_FLOAT32
from convlens.v1.tensor_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, Tensor
from convlens.workers.shapes import network as shapes
from tests.conftest import classification


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return classification(channel)


def images(pictures: list[Path]) -> list[Image]:
    return [Image(encoded=path.read_bytes()) for path in pictures]


def bare_scores(path: Path) -> torch.Tensor:
    """Scores of the bare network for a picture, prepared by hand."""
    size = shapes.INPUT_SIZE
    picture = PILImage.open(path).convert("RGB").resize((size, size), PILImage.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(size, size, 3).permute(2, 0, 1).float() / 255
    normal = (pixels - torch.tensor(shapes.MEAN).view(-1, 1, 1)) / torch.tensor(shapes.STD).view(
        -1, 1, 1
    )
    with torch.inference_mode():
        return shapes.load()(normal[None])[0]


def test_the_bundled_pictures_are_recognised(stub, pictures) -> None:
    response = stub.Classify(ClassifyRequest(images=images(pictures)), timeout=30)
    best = [result.classification.classes[0].label for result in response.results]
    assert len(best) >= 12
    assert best == [path.name.partition("-")[0] for path in pictures]


def test_scores_are_those_of_the_bare_network(stub, pictures) -> None:
    request = ClassifyRequest(images=images(pictures), top_k=len(shapes.LABELS))
    response = stub.Classify(request, timeout=30)
    for path, result in zip(pictures, response.results, strict=True):
        expected = bare_scores(path)
        scores = torch.empty(len(shapes.LABELS))
        for row in result.classification.classes:
            scores[row.class_index] = row.logit
            assert row.label == shapes.LABELS[row.class_index]
        assert (scores - expected).abs().max() <= 1e-5 * expected.abs().max()
        probabilities = [row.probability for row in result.classification.classes]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_company_does_not_change_an_answer(stub, pictures) -> None:
    together = stub.Classify(ClassifyRequest(images=images(pictures)), timeout=30)
    for image, result in zip(images(pictures), together.results, strict=True):
        [alone] = stub.Classify(ClassifyRequest(images=[image]), timeout=30).results
        for one, other in zip(
            alone.classification.classes, result.classification.classes, strict=True
        ):
            assert one.label == other.label
            assert one.logit == pytest.approx(other.logit, abs=1e-4)


def test_the_receipt_says_how_the_answer_came_about(stub, channel, pictures) -> None:
    request = ClassifyRequest(images=images(pictures)[:2])
    response = stub.Classify(request, timeout=30)
    network = NetworkServiceStub(channel).GetNetwork(GetNetworkRequest(), timeout=10).network
    receipt = response.receipt
    assert (receipt.network, receipt.network_version) == ("shapes", "1")
    assert receipt.network_digest == network.digest
    assert receipt.torch_version == torch.__version__
    assert receipt.precision == PRECISION_FLOAT32
    assert receipt.cost.forward_passes == 2
    filled = with_defaults(request)
    filled.network = "shapes@1"
    assert receipt.request_digest == digest(filled.SerializeToString(deterministic=True))
    parameters = ClassifyRequest()
    assert receipt.parameters.Unpack(parameters)
    assert parameters == ClassifyRequest(network="shapes@1", top_k=5)


def test_one_question_has_one_digest_however_the_network_is_named(stub, pictures) -> None:
    names = ("", "shapes", "shapes@1")
    requests = [ClassifyRequest(network=name, images=images(pictures)[:1]) for name in names]
    receipts = [stub.Classify(request, timeout=30).receipt for request in requests]
    assert len({receipt.request_digest for receipt in receipts}) == 1
    assert receipts[0] == receipts[1] == receipts[2]


def test_tensors_and_files_of_the_same_pixels_agree(stub) -> None:
    pixels = torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8)
    as_bytes = Tensor(dtype=DATA_TYPE_UINT8, shape=[128, 128, 3], data=pixels.numpy().tobytes())
    as_floats = Tensor(
        dtype=DATA_TYPE_FLOAT32,
        shape=[128, 128, 3],
        data=(pixels.float() / 255).numpy().tobytes(),
    )
    both = [Image(tensor=tensor, geometry=GEOMETRY_AS_IS) for tensor in (as_bytes, as_floats)]
    first, second = stub.Classify(ClassifyRequest(images=both), timeout=30).results
    assert first == second


def test_networks_are_listed_and_described(channel) -> None:
    stub = NetworkServiceStub(channel)
    [summary] = stub.ListNetworks(ListNetworksRequest(), timeout=10).networks
    assert (summary.name, summary.version, summary.is_default) == ("shapes", "1", True)
    network = stub.GetNetwork(GetNetworkRequest(network="shapes@1"), timeout=10).network
    assert tuple(network.labels) == shapes.LABELS
    assert (network.input.height, network.input.width) == (128, 128)
    assert network.parameters == sum(p.numel() for p in shapes.build().parameters())
    assert network.accuracies[0].top1 >= 0.97
    scores = {score.method: score for score in network.method_scores}
    assert {"saliency", "grad_cam", "occlusion", "deconvnet"} <= set(scores)
    assert (scores["saliency"].truth, scores["saliency"].pictures) == ("object", 500)
    assert 0 < scores["saliency"].pointing_game < 1
    assert network.device_kind == "cpu" or torch.cuda.is_available()
    assert len(bytes.fromhex(network.digest)) == hashlib.blake2b(digest_size=32).digest_size
