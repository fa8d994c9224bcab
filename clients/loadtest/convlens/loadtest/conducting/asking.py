"""Asks a server before the load begins: whether it is one, and whether the calls are right."""

from collections.abc import Sequence
from typing import Any

import click
import grpc

from convlens.client import (
    AlreadyExists,
    ConvLensError,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
)
from convlens.client._errors import Call, from_status, translated
from convlens.client._transport import Settings
from convlens.loadtest.generator.answers import finder
from convlens.loadtest.generator.orders import Caller
from convlens.loadtest.traffic.rpcs import METHODS, Prepared, response_kind
from convlens.v1 import network_pb2

# What would be so again with every request.
HOPELESS = (
    *(AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, PermissionDenied),
    *(Unauthenticated, Unimplemented),
)
# Seconds for a first answer, which may have more to prepare than those after it.
FIRST = 120.0
# Seconds to find a server.
CONNECT = 30.0
LIST = f"/{METHODS['ListNetworks'].containing_service.full_name}/ListNetworks"


def networks_of(settings: Settings, caller: Caller) -> list[str]:
    """The networks that a server has; raises ConvLensError where it is none, or knows no caller."""
    request = network_pb2.ListNetworksRequest().SerializeToString()
    try:
        [answer] = _asked(settings, caller, "unary", LIST, [request], CONNECT)
    except PermissionDenied:
        # A token for other RPCs is one all the same.
        return []
    except Unimplemented as error:
        raise Unimplemented(
            f"What answers at {settings.address} is no ConvLens server: it has no ListNetworks.",
            reason=error.reason,
        ) from error
    found = network_pb2.ListNetworksResponse.FromString(answer)
    return [f"{network.name}@{network.version}" for network in found.networks]


def tried(settings: Settings, caller: Caller, call: Prepared) -> str:
    """Sends a call once; why a part of its answer failed, or nothing.

    Raises ClickException where the same request would fail again and again.
    """
    parts = call.variants[0]
    try:
        answers = _asked(settings, caller, call.kind, call.path, parts, FIRST)
    except HOPELESS as error:
        raise click.ClickException(f"calls.{call.name}: {error}") from error
    except ConvLensError as error:
        return f"calls.{call.name}: {error}"
    kind = response_kind(call.rpc)
    for answer in answers:
        for status in finder(kind)(kind.FromString(answer)):
            return f"calls.{call.name}: a part of the answer failed: {from_status(status)}"
    return ""


def _asked(
    settings: Settings,
    caller: Caller,
    kind: str,
    path: str,
    messages: Sequence[bytes],
    timeout: float,
) -> list[bytes]:
    """The messages of an answer; raises ConvLensError."""
    metadata = caller.security.metadata()
    with _channel(settings) as opened, translated(Call(settings.address, path)):
        channel: Any = opened
        options: dict[str, Any] = {"timeout": timeout, "metadata": metadata}
        if kind == "unary":
            return [channel.unary_unary(path)(messages[0], **options)]
        if kind == "server_stream":
            return list(channel.unary_stream(path)(messages[0], **options))
        return list(channel.stream_stream(path)(iter(messages), **options))


def _channel(settings: Settings) -> grpc.Channel:
    options = settings.channel_options()
    credentials = settings.security.credentials()
    if credentials:
        return grpc.secure_channel(settings.address, credentials, options)
    return grpc.insecure_channel(settings.address, options)
