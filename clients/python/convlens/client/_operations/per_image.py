"""What operations on images have in common: an outcome for each image, in a call or a stream."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from convlens.client._errors import ConvLensError, Internal, InvalidRequest, from_status
from convlens.client._images import Geometry, ImageInput, is_many, to_image
from convlens.client._operations.base import OnError, Operation, Stream, message_of
from convlens.client._transport import Settings
from convlens.v1 import image_pb2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PerImage(Generic[T]):
    """An RPC that gives one outcome for each image, and its stream of the same name.

    `decode` makes a value of an image's result, the response that it came in, and the id of the
    request.
    """

    service: ServiceDescriptor
    rpc: str
    decode: Callable[[Any, Any, str], T]

    def call(
        self,
        settings: Settings,
        images: ImageInput | Sequence[ImageInput],
        geometry: Geometry,
        on_error: OnError,
        timeout: float | None,
        **parameters: object,
    ) -> Operation[Any]:
        """The call with one image, or with a list of them."""
        method = self.service.methods_by_name[self.rpc]
        batch = Batch.of(images, geometry, on_error, settings.max_message_bytes)
        request = message_of(GetMessageClass(method.input_type), images=batch.images, **parameters)

        def decode(data: bytes, request_id: str) -> object:
            response = GetMessageClass(method.output_type).FromString(data)
            return batch.collect(self._outcomes(response, request_id))

        return Operation(path_of(method), request, decode, timeout)

    def stream(
        self,
        settings: Settings,
        geometry: Geometry,
        on_error: OnError,
        in_flight: int,
        timeout: float | None,
        **parameters: object,
    ) -> Stream[ImageInput, Any]:
        """The stream, with one image in each request."""
        check_on_error(on_error)
        method = self.service.methods_by_name[f"{self.rpc}Stream"]
        request_kind = GetMessageClass(self.service.methods_by_name[self.rpc].input_type)

        def encode(number: int, image: ImageInput | None) -> Message:
            sent = image_pb2.Image()
            if image is not None:
                sent = to_image(image, geometry, settings.max_message_bytes)
            request = message_of(request_kind, images=[sent], **parameters)
            return message_of(GetMessageClass(method.input_type), id=number, request=request)

        def decode(data: bytes, request_id: str) -> tuple[int, T | ConvLensError]:
            response: Any = GetMessageClass(method.output_type).FromString(data)
            if response.WhichOneof("outcome") != "response":
                return response.id, from_status(response.error, request_id=request_id)
            [outcome] = _count(self._outcomes(response.response, request_id), 1)
            return response.id, outcome

        return Stream(path_of(method), encode, decode, on_error, in_flight, timeout)

    def _outcomes(self, response: Any, request_id: str) -> list[T | ConvLensError]:
        return [
            from_status(result.error, request_id=request_id)
            if result.WhichOneof("outcome") in ("error", None)
            else self.decode(getattr(result, result.WhichOneof("outcome")), response, request_id)
            for result in response.results
        ]


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
        check_on_error(on_error)
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

    def error_of(self, index: int, error: ConvLensError) -> ConvLensError:
        """The server's error, or what kept the image from being sent; as `judged` has it."""
        return self.judged(self.failed.get(index, error), index)

    def collect(self, outcomes: Sequence[T | ConvLensError]) -> object:
        """What the caller gets: the only outcome, or a list of them."""
        results: list[T | ConvLensError] = []
        for index, outcome in enumerate(_count(outcomes, len(self.images))):
            result = self.failed.get(index, outcome)
            failed = isinstance(result, ConvLensError)
            results.append(self.judged(result, index) if failed else result)
        return results if self.many else results[0]


def _count(outcomes: Sequence[T], sent: int) -> Sequence[T]:
    if len(outcomes) != sent:
        raise Internal(f"The server answered {len(outcomes)} of {sent} images.")
    return outcomes


def check_on_error(on_error: str) -> None:
    """Raises InvalidRequest where it is neither of both."""
    if on_error not in ("raise", "return"):
        raise InvalidRequest(f"on_error is {on_error!r}; it must be 'raise' or 'return'.")


def path_of(method: MethodDescriptor) -> str:
    """What gRPC calls the RPC."""
    return f"/{method.containing_service.full_name}/{method.name}"
