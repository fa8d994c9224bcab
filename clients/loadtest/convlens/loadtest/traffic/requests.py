"""The requests of a scenario as bytes, made and checked before the load begins."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from convlens.contract import violations
from convlens.loadtest.scenario import BadScenario, Call, Pictures, Scenario
from convlens.loadtest.traffic.pictures import pictures_of
from convlens.loadtest.traffic.rpcs import METHODS, MODULES, Kind, Prepared
from convlens.v1 import (
    adversarial_pb2,
    attack_methods_pb2,
    explanation_methods_pb2,
    image_pb2,
)

# Of these a body is one request, and the stream has many.
MANY = ("ClassifyStream", "ExtractFeaturesStream")
# What protobuf says of a field that is none.
UNKNOWN = re.compile(r'"convlens\.v1\.(\w+)" has no field named "([^"]+)" at "([^"]+)"')


def prepared(scenario: Scenario, folder: Path) -> list[Prepared]:
    """All calls of a scenario, whose paths begin at `folder`; BadScenario where one is wrong."""
    made: dict[str, list[image_pb2.Image]] = {}

    def drawn(wanted: Pictures) -> list[image_pb2.Image]:
        # Several calls have the same ones.
        key = wanted.model_dump_json()
        if key not in made:
            made[key] = pictures_of(wanted, folder, scenario.seed)
        return made[key]

    return [_prepared(scenario, name, call, drawn) for name, call in scenario.calls.items()]


def _prepared(
    scenario: Scenario,
    name: str,
    call: Call,
    drawn: Callable[[Pictures], list[image_pb2.Image]],
) -> Prepared:
    where = f"calls.{name}"
    method = METHODS.get(call.rpc)
    if method is None:
        raise BadScenario(f"{where}.rpc is {call.rpc!r}; RPCs are {', '.join(sorted(METHODS))}.")
    wanted = call.pictures or scenario.pictures
    pictures = drawn(wanted) if call.images else []
    variants: list[Sequence[bytes]] = []
    for number in range(max(1, len(pictures))):
        turned = [*pictures[number:], *pictures[:number]]
        messages = list(_messages(scenario, call, method, turned, where))
        if not number:
            _check(messages, where)
        variants.append([message.SerializeToString() for message in messages])
    kind: Kind = "unary"
    if method.client_streaming:
        kind = "stream"
    elif method.server_streaming:
        kind = "server_stream"
    service = method.containing_service.full_name
    return Prepared(
        name,
        call.rpc,
        f"/{service}/{method.name}",
        kind,
        variants,
        call.deadline or scenario.deadline,
        call.priority or "",
    )


def _messages(
    scenario: Scenario,
    call: Call,
    method: MethodDescriptor,
    pictures: Sequence[image_pb2.Image],
    where: str,
) -> Iterator[Message]:
    """The messages of one request; its pictures come from the front of those given."""
    kind = GetMessageClass(method.input_type)
    bodies = call.body if isinstance(call.body, list) else [call.body]
    if isinstance(call.body, list) and not method.client_streaming:
        raise BadScenario(f"{where}.body is a list; {method.name} takes one message.")
    if method.name in MANY and not isinstance(call.body, list):
        bodies = [{"id": number, "request": call.body} for number in range(call.messages)]
    elif "request" in method.input_type.fields_by_name and "request" not in bodies[0]:
        bodies = [{"request": call.body}]
    taken = 0
    for number, body in enumerate(bodies):
        at = f"{where}.body.{number}" if isinstance(call.body, list) else f"{where}.body"
        message = _parsed(kind, body, at)
        taken += _fill(message, [*pictures[taken:], *pictures[:taken]], call.images)
        taken %= max(1, len(pictures))
        _name_network(message, scenario.network)
        yield message


def _parsed(kind: type[Message], body: dict[str, Any], where: str) -> Message:
    try:
        return json_format.ParseDict(body, kind())
    except json_format.ParseError as error:
        words = _parse_words(str(error))
        raise BadScenario(f"{where} is no {kind.DESCRIPTOR.name}: {words}.") from error


def _parse_words(text: str) -> str:
    """What of a body does not parse, with the names that it may have."""
    match = UNKNOWN.search(text)
    if match is None:
        return " ".join(text.split()).rstrip(".")
    name, field, path = match.groups()
    known = _fields_of(name)
    keys = f"; it has {', '.join(known)}" if known else ""
    inner = path.partition(".")[2]
    return f"{f'{inner}: ' if inner else ''}there is no {field!r} in {name}{keys}"


def _fields_of(name: str) -> list[str]:
    """The fields of a message of the contract; none where it is not known."""
    kinds: dict[str, Descriptor] = {}
    for module in (*MODULES, explanation_methods_pb2, attack_methods_pb2, image_pb2):
        kinds |= module.DESCRIPTOR.message_types_by_name
    return [field.name for field in kinds[name].fields] if name in kinds else []


def _fill(message: Any, pictures: Sequence[image_pb2.Image], count: int) -> int:
    """Puts pictures where the message has none; how many."""
    if not (pictures and count):
        return 0
    inner = message.request if "request" in message.DESCRIPTOR.fields_by_name else message
    if isinstance(inner, adversarial_pb2.EvaluateRobustnessRequest):
        bare = [each for each in inner.batch.images if not each.HasField("image")]
        for number, each in enumerate(bare):
            each.image.CopyFrom(pictures[number % len(pictures)])
        return len(bare)
    field = inner.DESCRIPTOR.fields_by_name.get("images")
    if field is None or field.message_type is not image_pb2.Image.DESCRIPTOR or inner.images:
        return 0
    inner.images.extend(pictures[number % len(pictures)] for number in range(count))
    return count


def _name_network(message: Any, network: str) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    if "request" in fields:
        _name_network(message.request, network)
    elif "plan" in fields:
        if message.HasField("plan"):
            _name_network(message.plan, network)
    elif "network" in fields and not message.network:
        message.network = network


def _check(messages: Sequence[Message], where: str) -> None:
    """The contract's own rules, as the server would tell of them."""
    broken = [violation for message in messages for violation in violations(message)]
    if broken:
        words = "; ".join(f"{each.field} {each.description}" for each in broken[:8])
        raise BadScenario(f"{where}.body breaks the contract: {words}.")
