"""Valid requests to begin with: the smallest of every RPC, one for each choice that it offers."""

import io
import struct
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image as Pictures

from convlens.contract.rules import is_message, rule_of
from convlens.server.contract import Rpc
from convlens.v1 import adversarial_pb2, image_pb2, network_pb2, target_pb2, tensor_pb2

# The most choices of a oneof of methods: explanations have twelve.
CHOICES = 12
LAYER = "features.0"
# The side of the network's input, which a dense map cannot go below.
SHORTER_SIDE = 128
# Fields whose smallest value keeps a request short.
COUNTS = {
    "evaluations",
    "max_steps",
    "offspring",
    "queries",
    "restarts",
    "samples",
    "search_steps",
    "steps",
    "target_classes",
}
# What a field without a value of its own is given.
WORDS = {"network": "shapes@1", "id": "a", "layer": LAYER}


def picture(form: str = "PNG") -> bytes:
    """A small picture file."""
    file = io.BytesIO()
    Pictures.radial_gradient("L").resize((24, 31)).convert("RGB").save(file, form)
    return file.getvalue()


READY: dict[str, Message] = {
    "convlens.v1.Tensor": tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[24], data=struct.pack("<24f", *[1.0] * 24)
    ),
    "convlens.v1.Image": image_pb2.Image(encoded=picture()),
    "convlens.v1.Target": target_pb2.Target(label="star"),
    # Loading is off, which is told before the name is looked at.
    "convlens.v1.UnloadNetworkRequest": network_pb2.UnloadNetworkRequest(network="shapes@9"),
}


def requests_of(rpc: Rpc) -> list[list[Message]]:
    """The messages of valid calls of an RPC, several in each where it takes a stream."""
    if rpc.request is adversarial_pb2.EvaluateRobustnessRequest:
        return [_survey(choice) for choice in range(CHOICES)]
    kind: Any = rpc.request.DESCRIPTOR
    calls = [[filled(kind, choice)] for choice in range(CHOICES)]
    if rpc.streams_in:
        calls = [[*call, *call] for call in calls]
    distinct = {b"|".join(m.SerializeToString() for m in call): call for call in calls}
    return list(distinct.values())


def _survey(choice: int) -> list[Message]:
    kinds = adversarial_pb2.DESCRIPTOR.message_types_by_name
    plan: Any = filled(kinds["RobustnessPlan"], choice)
    of_length = plan.attacks[0].WhichOneof("method") in ("deep_fool", "carlini_wagner", "lbfgs")
    (plan.epsilons_l2 if of_length else plan.epsilons).append(0.1)
    batch: Any = filled(kinds["LabeledImages"], choice)
    request = adversarial_pb2.EvaluateRobustnessRequest
    return [request(plan=plan), request(batch=batch)]


def filled(kind: Descriptor, choice: int = 0) -> Message:
    """The smallest valid message of a type; of what must be chosen, the choice of this number."""
    message = GetMessageClass(kind)()
    if kind.full_name in READY:
        message.CopyFrom(READY[kind.full_name])
        return message
    chosen = {oneof.fields[choice % len(oneof.fields)].name for oneof in kind.oneofs}
    for field in kind.fields:
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            wanted = field.name in chosen
        else:
            rule = rule_of(field)
            wanted = rule.required or rule.min_items > 0 or field.name in COUNTS
        if field.name == "shorter_side":
            setattr(message, field.name, SHORTER_SIDE)
        elif wanted or field.name in ("layer", "network"):
            _fill(message, field, choice)
    return message


def _fill(message: Message, field: FieldDescriptor, choice: int) -> None:
    held: Any = getattr(message, field.name)
    if is_message(field):
        assert field.message_type
        inner = filled(field.message_type, choice)
        if field.is_repeated:
            held.append(inner)
        else:
            held.CopyFrom(inner)
            held.SetInParent()
    elif isinstance(held, str):
        setattr(message, field.name, WORDS[field.name])
    elif not field.is_repeated:
        setattr(message, field.name, int(rule_of(field).min))
