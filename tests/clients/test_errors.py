"""The one seam: every status code and every reason becomes the error that the catalogue means."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import Metadata
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

import convlens.client
from convlens.client import (
    Cancelled,
    ConvLensError,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    MessageTooLarge,
    NotFound,
    Overloaded,
    QuotaExceeded,
    Unavailable,
    Violation,
    _errors,
)
from convlens.client._errors import CLASSES, Call, from_rpc_error, from_status
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import keys_of, reason_name, rule_of
from convlens.v1 import network_pb2

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
REASONS = [number for number in ErrorReason.values() if number]
# The others are told by their codes.
KINDS = {
    "MESSAGE_TOO_LARGE": MessageTooLarge,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "IMAGE_EMPTY": InvalidImage,
    "IMAGE_UNREADABLE": InvalidImage,
    "IMAGE_TOO_LARGE": InvalidImage,
    "TENSOR_INVALID": InvalidImage,
    "GEOMETRY_MISMATCH": InvalidImage,
}
METHOD = "/convlens.v1.NetworkService/GetNetwork"


@pytest.fixture(scope="module")
def aborting() -> Iterator[str]:
    """A server without any manners: aborts with the code that the request names.

    After the name of the code may come a slash, and the details in hexadecimal.
    """

    def abort(request: network_pb2.GetNetworkRequest, context: grpc.ServicerContext) -> Any:
        code, slash, details = request.network.partition("/")
        if slash:
            context.set_trailing_metadata((("grpc-status-details-bin", bytes.fromhex(details)),))
        context.abort(grpc.StatusCode[code], "some words")

    handler = grpc.unary_unary_rpc_method_handler(
        abort, request_deserializer=network_pb2.GetNetworkRequest.FromString
    )

    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return handler if handler_call_details.method == METHOD else None

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[Handlers()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_code_has_its_error(connect, aborting, code):
    with pytest.raises(ConvLensError) as caught:
        connect(aborting, max_attempts=1).call("network", code.name)
    assert type(caught.value) is CLASSES[code]
    assert type(caught.value) is not ConvLensError
    assert caught.value.code is code
    assert caught.value.request_id
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_every_reason_arrives_whole(connect, reason):
    rule = rule_of(reason)
    metadata: dict[str, Any] = {key: f"<{key}>" for key in keys_of(reason)}
    failure = Failure(reason, retry_after=2.5 if rule.retryable else None, **metadata)
    with FakeServer({"GetNetwork": failure}) as server, pytest.raises(ConvLensError) as caught:
        connect(server.address, max_attempts=1).call("network")
    error = caught.value
    code = next(c for c in CODES if c.value[0] == rule.code)
    assert type(error) is KINDS.get(reason_name(reason), CLASSES[code])
    assert (error.reason, error.code) == (reason_name(reason), code)
    assert error.message == str(error) == str(failure)
    assert error.metadata == failure.metadata
    assert error.retry_after == failure.retry_after


def test_a_status_without_details_is_said_in_the_words_of_the_catalogue(connect, aborting):
    client = connect(aborting, max_attempts=1)
    said = {}
    for code in CODES:
        with pytest.raises(ConvLensError) as caught:
            client.call("network", code.name)
        said[code.name] = (caught.value.reason, caught.value.retry_after)
    assert {name: told for name, told in said.items() if told[0]} == {
        "CANCELLED": ("CANCELLED", None),
        "DEADLINE_EXCEEDED": ("DEADLINE_EXCEEDED", None),
        "UNAVAILABLE": ("SERVER_UNREACHABLE", 1.0),
        "UNIMPLEMENTED": ("NOT_IMPLEMENTED", None),
    }


def test_a_server_that_says_nothing_is_told_without_the_chain_of_grpc():
    # As gRPC says it after 20 s, where a socket takes connections and nobody reads from it.
    said = (
        "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: "
        "connection attempt timed out before receiving SETTINGS frame"
    )
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), said)
    found = from_rpc_error(error, Call("127.0.0.1:1", METHOD))
    assert "it takes connections and says nothing; it may be starting" in found.message
    assert "UNKNOWN" not in found.message


def test_a_status_that_grpc_lost_is_asked_for_again():
    lost = "Internal error from Core"
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), lost)
    found = from_rpc_error(error, Call("127.0.0.1:1", METHOD))
    assert isinstance(found, Unavailable)
    assert "it ended the call, and why was lost" in found.message
    assert found.retry_after == 1.0


def test_an_rpc_without_a_handler_is_named(connect, aborting):
    with pytest.raises(ConvLensError, match=r"/convlens\.v1\.NetworkService/ListNetworks is not"):
        connect(aborting).call("networks")


@pytest.mark.parametrize("details", [b"\xff\xff\xff\x01", b"\n\x05ab"])
def test_details_that_do_not_parse_hide_nothing(connect, aborting, details):
    with pytest.raises(NotFound, match=r"^some words$") as caught:
        connect(aborting).call("network", f"NOT_FOUND/{details.hex()}")
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_detail_that_does_not_parse_hides_nothing():
    info = AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    error = from_status(Status(code=5, message="Not here.", details=[info]))
    assert (type(error), error.message, error.reason) == (NotFound, "Not here.", "")


@pytest.mark.parametrize("seconds", [-5, -(10**15), 10**15])
def test_a_delay_that_makes_no_sense(seconds):
    delay, detail = RetryInfo(), AnyMessage()
    delay.retry_delay.seconds = seconds
    detail.Pack(delay)
    assert from_status(Status(code=8, details=[detail])).retry_after == max(0, seconds)


def test_a_service_that_the_server_does_not_have(connect):
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_HealthServicer_to_server(HealthServicer(), server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        with pytest.raises(NotFound) as caught:
            connect(address).call("health", "zz")
        server.stop(None).wait()
    assert str(caught.value).startswith(f"The server at {address} has no service 'zz'; ask for")
    assert "convlens.v1.ClassificationService" in str(caught.value)


def test_a_reason_of_a_newer_server_is_kept():
    info, retry = AnyMessage(), AnyMessage()
    info.Pack(ErrorInfo(reason="TOO_CLEVER", domain="convlens", metadata={"iq": "200"}))
    delay = RetryInfo()
    delay.retry_delay.FromMilliseconds(1500)
    retry.Pack(delay)
    error = from_status(Status(code=8, message="Too clever.", details=[info, retry]))
    assert isinstance(error, Overloaded)
    assert (error.reason, error.metadata) == ("TOO_CLEVER", {"iq": "200"})
    assert (error.message, error.retry_after) == ("Too clever.", 1.5)


def test_a_reason_of_somebody_else_is_not_ours():
    info = AnyMessage()
    info.Pack(ErrorInfo(reason="QUEUE_FULL", domain="proxy.example"))
    assert from_status(Status(code=8, details=[info])).reason == ""


def test_a_code_from_the_future():
    assert type(from_status(Status(code=99, message="?"))) is Internal


def test_errors_are_what_python_calls_them():
    assert issubclass(ImageFileNotFound, FileNotFoundError)
    assert issubclass(ImageFileNotFound, ValueError)
    assert issubclass(Unavailable, ConnectionError)
    assert not issubclass(MessageTooLarge, Overloaded)


def test_every_error_of_the_package_is_in_the_picture_of_the_tree():
    tree = _errors.__doc__ or ""
    drawn = {line.split()[0]: line.index(line.split()[0]) for line in tree.splitlines() if line}
    classes = [
        item
        for item in (getattr(convlens.client, name) for name in convlens.client.__all__)
        if isinstance(item, type) and issubclass(item, ConvLensError)
    ]
    for cls in classes:
        parents = [base for base in cls.__mro__[1:] if base in classes]
        assert cls.__name__ in drawn
        assert drawn[cls.__name__] == 4 + 2 * len(parents), cls


def test_errors_survive_a_process_pool():
    error = Overloaded(
        "Full.", reason="QUEUE_FULL", retry_after=1.0, violations=[Violation("a", "b")], index=3
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is Overloaded
    assert (str(copy), vars(copy)) == ("item 3: Full.", vars(error))
    missing = pickle.loads(pickle.dumps(ImageFileNotFound("There is no file 'x'.")))
    assert str(missing) == "There is no file 'x'."


def test_a_default_code():
    assert Cancelled("The client is closed.").code is grpc.StatusCode.CANCELLED
