"""What comes back: frozen values with the field names of the contract."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from convlens.client._anatomy import (
    Anatomy,
    DesignWarning,
    FieldExtent,
    Layer,
    ReceptiveField,
    TrainingMemory,
)
from convlens.client._text import percent
from convlens.contract.rules import kind_of
from convlens.v1 import anatomy_pb2, classification_pb2, network_pb2, receipt_pb2, target_pb2

T = TypeVar("T")


class Health(StrEnum):
    """Whether a service answers."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request asked of the network: passes of one image each."""

    forward_passes: int
    backward_passes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything needed to compute the answer again and to compare it."""

    network: str
    network_version: str
    network_digest: str
    request_digest: str
    convlens_version: str
    torch_version: str
    device_kind: str
    threads: int
    precision: str
    rows: int
    seed: int | None
    cost: Cost
    channels_last: bool
    compiled: bool
    opencv_version: str
    #: The receipt as it came, serialized; keeps what a newer server may have added.
    wire: bytes = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The receipt with the request's parameters, in plain values that JSON can hold."""
        message = receipt_pb2.Receipt.FromString(self.wire)
        return MessageToDict(message, preserving_proto_field_name=True)


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How the network rates one class: softmax in [0, 1], and the score before it.

    Both are known but of the class that a picture is made for, in an answer that ended early.
    """

    index: int
    label: str
    probability: float | None
    logit: float | None

    def __str__(self) -> str:
        sure = "" if self.probability is None else f" {percent(self.probability, 1)}"
        return f"{self.label}{sure}"


@dataclass(frozen=True, slots=True)
class Classification:
    """The best classes of one image, the best first, and how the answer came about."""

    classes: tuple[ClassScore, ...]
    receipt: Receipt = field(repr=False)

    @property
    def top(self) -> ClassScore:
        """The class that the network holds for the likeliest."""
        return self.classes[0]

    def __str__(self) -> str:
        return ", ".join(str(score) for score in self.classes)


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """A served network in a line; `classes` is how many it knows."""

    name: str
    version: str
    kind: str
    classes: int
    is_default: bool
    #: Its weight among the versions of its name.
    traffic_weight: float


@dataclass(frozen=True, slots=True)
class InputGeometry:
    """What is done to a picture first: sizes in pixels; mean and std in [0, 1], per channel.

    Nothing is done to what a network of kind "linear" takes: `width` is the number of its features.
    """

    height: int
    width: int
    channels: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the network was right on a set of pictures, in [0, 1]."""

    dataset: str
    top1: float | None
    top5: float | None


@dataclass(frozen=True, slots=True)
class MethodScore:
    """How surely a method of Explain finds what is known to decide a network's answers."""

    method: str
    #: What there was to find: "object", "marker".
    truth: str
    pictures: int
    pointing_game: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How bfloat16 compares with float32 on a network; it is taken where it `passed`.

    `top1_agreement` is the share of the pictures whose best class is the same; `score_error` the
    largest difference of a score, as a share of the picture's largest.
    """

    pictures: int
    top1_agreement: float
    score_error: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Network:
    """A served network."""

    name: str
    version: str
    kind: str
    labels: tuple[str, ...] = field(repr=False)
    input: InputGeometry
    parameters: int
    accuracies: tuple[Accuracy, ...]
    precision: str
    device_kind: str
    digest: str
    convlens_version: str
    torch_version: str
    anatomy: Anatomy = field(repr=False)
    #: Its weight among the versions of its name.
    traffic_weight: float
    #: Rows of a full micro-batch in the analysis pool.
    rows: int
    channels_last: bool
    compiled: bool
    #: Of a bundled network: how surely methods find what decides its answers.
    method_scores: tuple[MethodScore, ...] = field(repr=False)
    #: What came of asking for bfloat16; None where float32 was asked for.
    parity: Parity | None


@dataclass(frozen=True, slots=True)
class PretrainedWeights:
    """Weights that torchvision offers; multiply-adds are for one image."""

    network: str
    weights: str
    is_default: bool
    accuracy: Accuracy
    parameters: int
    multiply_adds: int
    file_bytes: int
    input: InputGeometry
    #: 0 for features without a classifier, which cannot be served.
    classes: int
    recipe: str
    url: str


def classification(
    message: classification_pb2.Classification, receipt: receipt_pb2.Receipt
) -> Classification:
    """One image's answer, with the receipt of the call that brought it."""
    return Classification(scores_of(message.classes), receipt_of(receipt))


def scores_of(messages: Iterable[target_pb2.ClassScore]) -> tuple[ClassScore, ...]:
    """The scores of several classes."""
    return tuple(map(score_of, messages))


def score_of(message: target_pb2.ClassScore) -> ClassScore:
    """The score of a class."""
    return plain(ClassScore, message, index=message.class_index)


def receipt_of(message: receipt_pb2.Receipt) -> Receipt:
    """The receipt of an answer."""
    wire = message.SerializeToString(deterministic=True)
    return plain(Receipt, message, cost=cost_of(message.cost), wire=wire)


def cost_of(message: receipt_pb2.Cost) -> Cost:
    """The cost."""
    return plain(Cost, message)


def network_summary(message: network_pb2.NetworkSummary) -> NetworkSummary:
    """One line of the list of networks."""
    return plain(NetworkSummary, message)


def network(message: network_pb2.Network) -> Network:
    """One network with its anatomy."""
    return plain(
        Network,
        message,
        input=plain(InputGeometry, message.input),
        accuracies=tuple(plain(Accuracy, entry) for entry in message.accuracies),
        anatomy=_anatomy(message.anatomy),
        method_scores=tuple(plain(MethodScore, entry) for entry in message.method_scores),
        parity=plain(Parity, message.parity) if message.HasField("parity") else None,
    )


def pretrained_weights(message: network_pb2.PretrainedWeights) -> PretrainedWeights:
    """Weights that may be served."""
    return plain(
        PretrainedWeights,
        message,
        accuracy=plain(Accuracy, message.accuracy),
        input=plain(InputGeometry, message.input),
    )


def _anatomy(message: anatomy_pb2.Anatomy) -> Anatomy:
    return plain(
        Anatomy,
        message,
        layers=tuple(_layer(entry) for entry in message.layers),
        training_memory=plain(TrainingMemory, message.training_memory),
        warnings=tuple(plain(DesignWarning, entry) for entry in message.warnings),
    )


def _layer(message: anatomy_pb2.Layer) -> Layer:
    seen = message.receptive_field
    return plain(
        Layer,
        message,
        receptive_field=ReceptiveField(
            plain(FieldExtent, seen.vertical), plain(FieldExtent, seen.horizontal)
        )
        if message.HasField("receptive_field")
        else None,
    )


def plain(cls: Callable[..., T], message: Message, **converted: object) -> T:
    """A value of `cls` with the fields of `message`, None for what was not said.

    Messages among the fields come in `converted`.
    """
    values = {
        entry.name: _value(getattr(message, entry.name), entry)
        if not entry.has_presence or message.HasField(entry.name)
        else None
        for entry in kind_of(message).fields
        if entry.name not in converted and entry.name in names_of(cls)
    }
    return cls(**values, **converted)


@cache
def names_of(cls: Callable[..., object]) -> frozenset[str]:
    """The fields of a dataclass."""
    return frozenset(entry.name for entry in fields(cast(Any, cls)))


def _value(value: Any, entry: FieldDescriptor) -> object:
    values = value if entry.is_repeated else [value]
    if entry.enum_type is not None:
        values = [_word(entry.enum_type, number) for number in values]
    return tuple(values) if entry.is_repeated else values[0]


def _word(enum: EnumDescriptor, number: int) -> str:
    """An enum's value as people write it: PRECISION_FLOAT32 is "float32"."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower()
