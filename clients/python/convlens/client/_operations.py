"""The operations, said once for both clients: what each sends and what it makes of the answer.

A new operation is a function here, of the client's settings and what its caller gives, that returns
an Operation or a Stream; and one line in each of Client and AsyncClient.
"""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from convlens.client import _results
from convlens.client._errors import ConvLensError, Internal, InvalidRequest, from_status
from convlens.client._images import Geometry, ImageInput, is_many, to_image
from convlens.client._results import (
    Classification,
    Health,
    Network,
    NetworkSummary,
    PretrainedWeights,
)
from convlens.client._transport import Settings, check_count, time_of
from convlens.v1 import classification_pb2, image_pb2, network_pb2

S = TypeVar("S")
T = TypeVar("T")
M = TypeVar("M", bound=Message)

OnError: TypeAlias = Literal["raise", "return"]
CLASSIFICATION = "/convlens.v1.ClassificationService"
NETWORK = "/convlens.v1.NetworkService"
# Those that the clients call.
SERVICES = [
    service.full_name
    for file in (classification_pb2.DESCRIPTOR, network_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
]
# Requests of a stream that are under way at a time, unless the caller says otherwise.
IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call: the request that goes to `path`, and what the answer's bytes mean.

    `decode` also gets the id of the request, for the errors of single items. `missing` says what
    the server does not have where it says NOT_FOUND and no more.
    """

    path: str
    request: Message
    decode: Callable[[bytes, str], T]
    timeout: float | None
    missing: str = ""

    def __post_init__(self) -> None:
        time_of(self.timeout)


@dataclass(frozen=True, slots=True)
class Stream(Generic[S, T]):
    """Many requests on one call, answered in their order.

    `encode` makes the request of an item; without an item, one that the server refuses: it holds
    the place of an item that cannot be sent. `decode` gives the number of the request and its
    result or error.
    """

    path: str
    encode: Callable[[int, S | None], Message]
    decode: Callable[[bytes, str], tuple[int, T | ConvLensError]]
    on_error: OnError
    in_flight: int
    timeout: float | None

    def __post_init__(self) -> None:
        check_count("in_flight", self.in_flight)
        time_of(self.timeout)


@overload
def classify(
    settings: Settings,
    images: ImageInput,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    timeout: float | None = None,
) -> Operation[Classification]: ...
@overload
def classify(
    settings: Settings,
    images: Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    timeout: float | None = None,
) -> Operation[list[Classification]]: ...
@overload
def classify(
    settings: Settings,
    images: Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    timeout: float | None = None,
) -> Operation[list[Classification | ConvLensError]]: ...
def classify(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
) -> Operation[Any]:
    """Says what is in a picture, or in each of a list of pictures.

    An image is a path, bytes, an open file, a PIL image, a numpy array or a torch tensor; see
    `ImageInput`. One image gives one Classification; a list gives a list, in its order. Of a list,
    `on_error="raise"` raises the error of the first image that failed, whose `index` says which;
    `on_error="return"` puts each error where the result would be. `network` and `top_k` mean what
    ClassifyRequest says; left out, the server's defaults. `timeout` is in seconds; left out, the
    client's.
    """
    batch = Batch.of(images, geometry, on_error, settings.max_message_bytes)
    kind = classification_pb2.ClassifyRequest
    request = _message(kind, network=network, images=batch.images, top_k=top_k)

    def decode(data: bytes, request_id: str) -> object:
        response = classification_pb2.ClassifyResponse.FromString(data)
        return batch.collect(_classified(response, request_id))

    return Operation(f"{CLASSIFICATION}/Classify", request, decode, timeout)


@overload
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Classification]: ...
@overload
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Classification | ConvLensError]: ...
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Any]:
    """Says what is in each of any number of pictures, in their order and in constant memory.

    The pictures are read as the answers are taken: at most `in_flight` of them are under way, and
    none is read ahead of that. They are read in another thread, so that a slow source does not
    hold back what is answered already. `on_error="raise"` ends the stream with the first picture
    that fails; `on_error="return"` yields its error in its place and goes on. `timeout` is for
    the whole stream, in seconds; left out, there is none. The other parameters are those of
    `classify`.
    """
    _check_on_error(on_error)

    def encode(number: int, image: ImageInput | None) -> Message:
        sent = image_pb2.Image()
        if image is not None:
            sent = to_image(image, geometry, settings.max_message_bytes)
        kind = classification_pb2.ClassifyRequest
        request = _message(kind, network=network, images=[sent], top_k=top_k)
        return classification_pb2.ClassifyStreamRequest(id=number, request=request)

    def decode(data: bytes, request_id: str) -> tuple[int, Classification | ConvLensError]:
        response = classification_pb2.ClassifyStreamResponse.FromString(data)
        if response.WhichOneof("outcome") != "response":
            return response.id, from_status(response.error, request_id=request_id)
        [result] = _count(_classified(response.response, request_id), 1)
        return response.id, result

    path = f"{CLASSIFICATION}/ClassifyStream"
    return Stream(path, encode, decode, on_error, in_flight, timeout)


def networks(_: Settings, *, timeout: float | None = None) -> Operation[list[NetworkSummary]]:
    """Lists the served networks, by name and version. `timeout` is in seconds."""

    def decode(data: bytes, _: str) -> list[NetworkSummary]:
        response = network_pb2.ListNetworksResponse.FromString(data)
        return [_results.network_summary(entry) for entry in response.networks]

    return Operation(f"{NETWORK}/ListNetworks", network_pb2.ListNetworksRequest(), decode, timeout)


def network(_: Settings, name: str = "", *, timeout: float | None = None) -> Operation[Network]:
    """Describes one network: labels, input, accuracy, layers.

    `name` is "name" or "name@version"; empty for the server's default. `timeout` is in seconds.
    Raises NotFound where no such network is served.
    """

    def decode(data: bytes, _: str) -> Network:
        return _results.network(network_pb2.GetNetworkResponse.FromString(data).network)

    request = _message(network_pb2.GetNetworkRequest, network=name)
    return Operation(f"{NETWORK}/GetNetwork", request, decode, timeout)


def pretrained(
    _: Settings, name_contains: str = "", *, timeout: float | None = None
) -> Operation[list[PretrainedWeights]]:
    """Lists the pretrained weights that networks.yaml may name, by network and weights.

    They are those of the torchvision that the server's workers have. `name_contains` leaves only
    the networks whose name contains it. `timeout` is in seconds.
    """

    def decode(data: bytes, _: str) -> list[PretrainedWeights]:
        response = network_pb2.ListPretrainedResponse.FromString(data)
        return [_results.pretrained_weights(entry) for entry in response.weights]

    request = _message(network_pb2.ListPretrainedRequest, name_contains=name_contains)
    return Operation(f"{NETWORK}/ListPretrained", request, decode, timeout)


def health(_: Settings, service: str = "", *, timeout: float | None = None) -> Operation[Health]:
    """Asks whether the server answers, or one service of it ("convlens.v1.NetworkService").

    `timeout` is in seconds. Raises NotFound where the server has no such service, and Unavailable
    where there is no server.
    """

    def decode(data: bytes, _: str) -> Health:
        status = health_pb2.HealthCheckResponse.FromString(data).status
        return {1: Health.SERVING, 2: Health.NOT_SERVING}.get(status, Health.UNKNOWN)

    request = _message(health_pb2.HealthCheckRequest, service=service)
    missing = f"no service {service!r}; ask for one of {', '.join(SERVICES)}, or leave it out"
    return Operation("/grpc.health.v1.Health/Check", request, decode, timeout, missing)


@dataclass(frozen=True, slots=True)
class Batch:
    """The images of one call; one that cannot be sent leaves its error and an empty place."""

    images: list[image_pb2.Image]
    failed: dict[int, ConvLensError]
    many: bool
    on_error: OnError

    @classmethod
    def of(
        cls,
        images: ImageInput | Sequence[ImageInput],
        geometry: Geometry,
        on_error: OnError,
        max_bytes: int,
    ) -> Batch:
        """Encodes the images; raises the first error unless errors are to be returned."""
        _check_on_error(on_error)
        sources = images if is_many(images) else [cast(ImageInput, images)]
        batch = cls([], {}, many=is_many(images), on_error=on_error)
        for index, image in enumerate(sources):
            try:
                batch.images.append(to_image(image, geometry, max_bytes))
            except ConvLensError as error:
                batch.failed[index] = batch.judged(error, index)
                batch.images.append(image_pb2.Image())
        return batch

    def judged(self, error: ConvLensError, index: int) -> ConvLensError:
        """The error as it is to be returned, with its index; raised where it is not to be."""
        error.index = index if self.many else None
        if self.on_error == "raise":
            raise error
        return error

    def collect(self, outcomes: Sequence[T | ConvLensError]) -> object:
        """What the caller gets: the only outcome, or a list of them."""
        results: list[T | ConvLensError] = []
        for index, outcome in enumerate(_count(outcomes, len(self.images))):
            result = self.failed.get(index, outcome)
            failed = isinstance(result, ConvLensError)
            results.append(self.judged(result, index) if failed else result)
        return results if self.many else results[0]


def _classified(
    response: classification_pb2.ClassifyResponse, request_id: str
) -> list[Classification | ConvLensError]:
    return [
        _results.classification(result.classification, response.receipt)
        if result.WhichOneof("outcome") == "classification"
        else from_status(result.error, request_id=request_id)
        for result in response.results
    ]


def _count(outcomes: Sequence[T], sent: int) -> Sequence[T]:
    if len(outcomes) != sent:
        raise Internal(f"The server answered {len(outcomes)} of {sent} images.")
    return outcomes


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InvalidRequest(f"on_error is {on_error!r}; it must be 'raise' or 'return'.")


def _message(kind: type[M], **values: Any) -> M:
    """A message, or InvalidRequest where a value is of a wrong type or does not fit."""
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The request is not valid: {error}.") from error
