"""The network that a FakeServer has, and what it says to requests that do not fit it."""

from typing import Any

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from convlens.contract import ErrorReason, Failure, digest
from convlens.v1 import image_pb2, receipt_pb2, target_pb2

#: The network, its only layer, the side of its input in pixels.
NAME = "pets"
LAYER = "avgpool"
SIDE = 32
#: What it finds in every image, the best first.
SCORES = (
    target_pb2.ClassScore(class_index=0, label="cat", probability=0.9, logit=2.0),
    target_pb2.ClassScore(class_index=1, label="dog", probability=0.1, logit=-0.2),
)
LABELS = [score.label for score in SCORES]
EMPTY = Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats="PNG").status()


def invalid(field: str, description: str) -> Failure:
    """The error of a request whose field does not fit the network."""
    problem = BadRequest.FieldViolation(field=field, description=description)
    return Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=[problem])


def has_pixels(image: image_pb2.Image) -> bool:
    """Whether there is anything in the image; nobody looks at what."""
    return bool(image.encoded) or image.HasField("tensor")


def check_network(name: str) -> None:
    """Raises NETWORK_NOT_FOUND for any other network."""
    if name not in ("", NAME, f"{NAME}@1"):
        reason = ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND
        raise Failure(reason, network=name, served=f"{NAME}@1")


def class_of(field: str, target: target_pb2.Target) -> target_pb2.ClassScore:
    """The class that is asked for; INVALID_REQUEST where there is none."""
    kind = target.WhichOneof("target") or ""
    for index, score in enumerate(SCORES):
        if {"class_index": index, "label": score.label, "rank": index + 1}[kind] == getattr(
            target, kind
        ):
            return score
    words = f"is {getattr(target, kind)}; there are 0 to {len(LABELS) - 1}: {', '.join(LABELS)}"
    raise invalid(f"{field}.{kind}", words)


def receipt_for(request: Message, *without: str) -> receipt_pb2.Receipt:
    """The receipt of an answer to a request that has every default."""
    receipt = receipt_pb2.Receipt(
        network=NAME,
        network_version="1",
        network_digest=digest(NAME.encode()),
        request_digest=digest(request.SerializeToString()),
        convlens_version="fake",
        device_kind="cpu",
        threads=1,
        precision=receipt_pb2.PRECISION_FLOAT32,
        seed=getattr(request, "seed", 0),
    )
    parameters: Any = type(request)()
    parameters.CopyFrom(request)
    for name in {"images", *without} & set(parameters.DESCRIPTOR.fields_by_name):
        parameters.ClearField(name)
    receipt.parameters.Pack(parameters)
    return receipt
