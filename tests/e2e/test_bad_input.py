"""Bad input: each gets its reason, says what is allowed, and spoils nothing else."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_status import rpc_status
from PIL import Image as PILImage

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.contract import RPCS
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import GEOMETRY_AS_IS, Image
from convlens.v1.network_pb2 import GetNetworkRequest, LoadNetworkRequest, UnloadNetworkRequest
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from convlens.v1.tensor_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_INT64, DATA_TYPE_UINT8, Tensor
from tests.conftest import classification


@pytest.fixture(scope="module")
def classify(channel: grpc.Channel) -> Callable[..., Any]:
    stub = classification(channel)
    return lambda request: stub.Classify(request, timeout=30)


def refused() -> Any:
    """The error of gRPC that a block must end with; its class says too little of its members."""
    return pytest.raises(grpc.RpcError)


def refusal(call: Callable[[], Any]) -> Failure:
    """The failure with which a call ends; its code and the code in the details must agree."""
    with refused() as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    failure = Failure.from_status(status)
    assert failure is not None
    assert failure.code == caught.value.code().value[0]
    assert str(failure) == caught.value.details()
    trailing = dict(caught.value.trailing_metadata())
    assert trailing["x-request-id"]
    return failure


def encoded(form: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    out = io.BytesIO()
    PILImage.new("RGB", size, (200, 30, 30)).save(out, form, **options)
    return out.getvalue()


def huge_png() -> bytes:
    """A PNG whose header claims 60 000 x 60 000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def floats(values: np.ndarray) -> Tensor:
    data = values.astype("<f4").tobytes()
    return Tensor(dtype=DATA_TYPE_FLOAT32, shape=values.shape, data=data)


HALF = np.full((8, 8, 3), 0.5)
WITH_NAN = np.where(np.arange(192).reshape(8, 8, 3) == 7, np.nan, HALF)

BAD_IMAGES = {
    "no source": (Image(), "INVALID_REQUEST", "source"),
    "empty bytes": (Image(encoded=b""), "IMAGE_EMPTY", "PNG"),
    "a text file": (Image(encoded=b"hello, I am a text\n" * 9), "IMAGE_UNREADABLE", "JPEG"),
    "a truncated JPEG": (Image(encoded=encoded("JPEG")[:-80]), "IMAGE_UNREADABLE", "ends"),
    "a PNG of 60 000 x 60 000": (Image(encoded=huge_png()), "IMAGE_TOO_LARGE", "60000"),
    "bytes that do not fit": (
        Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[8, 8, 3], data=b"\0" * 191)),
        "TENSOR_INVALID",
        "191",
    ),
    "four channels": (
        Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[8, 8, 4], data=b"\0" * 256)),
        "TENSOR_INVALID",
        "4",
    ),
    "a wrong type": (
        Image(tensor=Tensor(dtype=DATA_TYPE_INT64, shape=[1, 1, 3], data=b"\0" * 24)),
        "TENSOR_INVALID",
        "float32",
    ),
    "NaN": (Image(tensor=floats(WITH_NAN)), "TENSOR_INVALID", "NaN"),
    "above 1": (Image(tensor=floats(HALF * 3)), "TENSOR_INVALID", "1.5"),
    "below 0": (Image(tensor=floats(HALF - 1)), "TENSOR_INVALID", "-0.5"),
    "a size that is not the network's": (
        Image(encoded=encoded("PNG"), geometry=GEOMETRY_AS_IS),
        "GEOMETRY_MISMATCH",
        "30",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_has_a_status_and_its_neighbours_have_results(classify, name: str) -> None:
    bad, reason, word = BAD_IMAGES[name]
    good = Image(encoded=encoded("PNG"))
    before, item, after = classify(ClassifyRequest(images=[good, bad, good])).results
    assert before == after
    assert before.HasField("classification")
    failure = Failure.from_status(item.error)
    assert failure is not None
    assert reason_name(failure.reason) == reason
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert word in str(failure)


def test_one_bad_picture_among_63_good_ones(classify) -> None:
    items = [Image(encoded=encoded("JPEG", (40 + i, 30))) for i in range(63)]
    items.insert(31, Image(encoded=b"no picture"))
    results = classify(ClassifyRequest(images=items)).results
    assert [i for i, result in enumerate(results) if result.HasField("error")] == [31]
    assert sum(result.HasField("classification") for result in results) == 63


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_every_format_is_read(classify, form: str) -> None:
    [result] = classify(ClassifyRequest(images=[Image(encoded=encoded(form))])).results
    assert result.HasField("classification")


def test_an_animated_gif_is_its_first_frame(classify) -> None:
    out = io.BytesIO()
    frames = [PILImage.new("P", (40, 30), i) for i in range(3)]
    for i, frame in enumerate(frames):
        frame.putpalette([200 - 90 * i, 30, 30] * 256)
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    first = io.BytesIO()
    frames[0].save(first, "GIF")
    request = ClassifyRequest(
        images=[Image(encoded=out.getvalue()), Image(encoded=first.getvalue())]
    )
    animated, still = classify(request).results
    assert animated == still


def test_a_picture_of_one_pixel(classify) -> None:
    [result] = classify(ClassifyRequest(images=[Image(encoded=encoded("PNG", (1, 1)))])).results
    assert result.HasField("classification")


GOOD = Image(encoded=encoded("PNG"))
BAD_REQUESTS: dict[str, tuple[Message, str, set[str]]] = {
    "no images": (ClassifyRequest(), "INVALID_REQUEST", {"images"}),
    "65 images": (ClassifyRequest(images=[GOOD] * 65), "INVALID_REQUEST", {"images"}),
    "top_k of 0": (ClassifyRequest(images=[GOOD], top_k=0), "INVALID_REQUEST", {"top_k"}),
    "top_k above the classes": (
        ClassifyRequest(images=[GOOD], top_k=11),
        "INVALID_REQUEST",
        {"top_k"},
    ),
    "everything at once": (
        ClassifyRequest(network="n" * 300, top_k=0),
        "INVALID_REQUEST",
        {"network", "images", "top_k"},
    ),
    "an unknown network": (
        ClassifyRequest(network="alexnet", images=[GOOD]),
        "NETWORK_NOT_FOUND",
        set(),
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_every_violation(classify, name: str) -> None:
    request, reason, fields = BAD_REQUESTS[name]
    failure = refusal(lambda: classify(request))
    assert reason_name(failure.reason) == reason
    assert {violation.field for violation in failure.violations} == fields


def test_an_unknown_network_is_told_which_are_served(channel) -> None:
    stub = NetworkServiceStub(channel)
    failure = refusal(lambda: stub.GetNetwork(GetNetworkRequest(network="x@9"), timeout=10))
    assert failure.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert failure.metadata == {"network": "'x@9'", "served": "shapes@1"}


def test_a_message_that_is_none(channel) -> None:
    call = channel.unary_unary("/convlens.v1.ClassificationService/Classify")
    failure = refusal(lambda: call(b"\xff\xff\xff\xff", timeout=10))
    assert reason_name(failure.reason) == "MALFORMED_MESSAGE"
    assert failure.metadata["message"] == "convlens.v1.ClassifyRequest"


def test_a_message_over_the_size_limit_is_refused_by_grpc_itself(server, channel) -> None:
    stub = classification(channel)
    request = ClassifyRequest(images=[Image(encoded=bytes(65 * 2**20))])
    with refused() as caught:
        stub.Classify(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert stub.Classify(ClassifyRequest(images=[GOOD]), timeout=30).results


def test_every_rpc_of_the_contract_is_answered(channel) -> None:
    for path, rpc in RPCS.items():
        ask = channel.stream_stream if rpc.streams_in else channel.unary_stream
        call = ask(path)(iter([b"\xff"]) if rpc.streams_in else b"\xff", timeout=10)
        failure = refusal(lambda call=call: list(call))
        assert reason_name(failure.reason) == "MALFORMED_MESSAGE", path


def test_loading_is_off_unless_the_settings_say_otherwise(channel) -> None:
    stub = NetworkServiceStub(channel)
    for call in (
        lambda: stub.LoadNetwork(LoadNetworkRequest(network="shapes@2"), timeout=10),
        lambda: stub.UnloadNetwork(UnloadNetworkRequest(network="shapes@1"), timeout=10),
    ):
        failure = refusal(call)
        assert reason_name(failure.reason) == "NETWORK_NOT_LOADABLE"
        assert "loading is off" in str(failure)


def test_a_given_request_id_comes_back(channel) -> None:
    stub = classification(channel)
    for given, returned in (("my-id.7", True), ("bad id", False), ("x" * 65, False)):
        _, call = stub.Classify.with_call(
            ClassifyRequest(images=[GOOD]), timeout=10, metadata=[("x-request-id", given)]
        )
        assert (dict(call.trailing_metadata())["x-request-id"] == given) == returned
