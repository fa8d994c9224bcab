"""A server to test against: real gRPC on a free port of this machine, with answers of your own.

def test_my_code():
    with FakeServer({"Classify": my_answer}) as server:
        run_my_code(Client(server.address))
    assert server.requests[0].message.top_k == 3
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from convlens.client._errors import CODES, DETAILS_KEY, REQUEST_ID_KEY
from convlens.client._fake_answers import Answer, default_answers
from convlens.client._fake_attacks import attacked_in_parts
from convlens.client._fake_basics import receipt_for
from convlens.client._fake_explanations import explained_in_parts
from convlens.contract import ErrorReason, Failure, violations, with_defaults
from convlens.contract.rules import kind_of
from convlens.v1 import (
    adversarial_pb2,
    classification_pb2,
    explanation_pb2,
    feature_pb2,
    network_pb2,
    synthesis_pb2,
)

SERVICES = [
    service
    for module in (
        *(adversarial_pb2, classification_pb2, explanation_pb2, feature_pb2, health_pb2),
        *(network_pb2, synthesis_pb2),
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"/{m.containing_service.full_name}/{m.name}": m for s in SERVICES for m in s.methods}
METHODS_BY_RPC = {method.name: method for method in METHODS.values()}
RPCS = sorted(METHODS_BY_RPC)
# Streams that tell what a single call would have got.
IN_PARTS: Mapping[str, Callable[[Any, Any], Iterator[Any]]] = {
    "AttackStream": attacked_in_parts,
    "ExplainStream": explained_in_parts,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the server got; `timeout` is what was left of its caller's time, in s."""

    rpc: str
    message: Any
    metadata: dict[str, str | bytes]
    timeout: float | None


class FakeServer:
    """Answers like a ConvLens server with one network that finds a cat in everything.

    `answers` has answers of your own by the name of the RPC: "Classify", "ClassifyStream",
    "GetNetwork"; a name of none is a ValueError. Without one for a stream as ClassifyStream, its
    requests are answered one by one as Classify would, and a Failure becomes the answer to its
    request. Without one for ExplainStream or AttackStream, the answer of Explain or Attack
    comes in parts.
    Without one for EvaluateRobustness, an image's id decides within which budget attacks succeed.
    Without one for Synthesize, squares come out of noise, for every method.
    `requests` has what came in, in order. `max_message_bytes` is the largest request that it takes;
    -1 is any.

    A request that breaks the contract is answered with its violations, as a server does, unless a
    function of yours has the whole stream. An answer of yours without a receipt gets one. Unlike a
    server, it looks at no pixels, and every service is healthy.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        max_workers: int = 8,
        max_message_bytes: int = -1,
    ) -> None:
        if unknown := sorted(set(answers or ()) - set(RPCS)):
            raise ValueError(f"No RPC is called {unknown[0]!r}; there are: {', '.join(RPCS)}.")
        self.answers: dict[str, Answer] = {**default_answers(), **(answers or {})}
        self.requests: list[Request] = []
        self._pool = ThreadPoolExecutor(max_workers, thread_name_prefix="fake-server")
        self._server = grpc.server(
            self._pool,
            handlers=[_Handlers(self)],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def address(self) -> str:
        """Where it listens: "127.0.0.1:port"."""
        return f"127.0.0.1:{self._port}"

    def stop(self, grace: float | None = None) -> None:
        """Ends it; calls under way have `grace` seconds, or none."""
        self._server.stop(grace).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "FakeServer":
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def answer(self, rpc: str, request: Any) -> Any:
        """What the server says to one request that keeps the contract."""
        if problems := violations(request):
            raise Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=problems)
        said = self._said(rpc, request)
        return _with_receipt(said, request) if isinstance(said, Message) else said

    def answers_to(self, rpc: str, requests: Iterator[Any]) -> Iterator[Any]:
        """What the server says to the requests of a stream."""
        if not METHODS_BY_RPC[rpc].client_streaming:
            return self._answers_to_one(rpc, *requests)
        single = rpc.removesuffix("Stream")
        if rpc not in self.answers and single in RPCS:
            return (self._one(rpc, single, request) for request in requests)
        if isinstance(self.answers.get(rpc), Message):
            return (_under_id(self.answer(rpc, request), request) for request in requests)
        return self._said(rpc, requests)

    def _said(self, rpc: str, asked: Any) -> Any:
        answer = self.answers.get(rpc)
        if answer is None:
            raise Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc=rpc)
        if isinstance(answer, Failure):
            raise answer
        return answer if isinstance(answer, Message) else answer(asked)

    def _answers_to_one(self, rpc: str, request: Any) -> Iterator[Any]:
        if problems := violations(request):
            raise Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=problems)
        if rpc in IN_PARTS and rpc not in self.answers:
            whole = self.answer(rpc.removesuffix("Stream"), request.request)
            return IN_PARTS[rpc](request, whole)
        said = self._said(rpc, request)
        return iter([said]) if isinstance(said, Message) else said

    def _one(self, rpc: str, single: str, item: Any) -> Message:
        """The stream's response to one of its requests: what a single call would have got."""
        response = GetMessageClass(METHODS_BY_RPC[rpc].output_type)
        try:
            return response(id=item.id, response=self.answer(single, item.request))
        except Failure as failure:
            return response(id=item.id, error=failure.status())


class _Handlers(grpc.GenericRpcHandler):
    """Finds each RPC in the contract, so a new one needs no line here."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        method = METHODS.get(handler_call_details.method)
        return _handler(self._server, method) if method else None


def _handler(server: FakeServer, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    def note(message: Message, context: grpc.ServicerContext) -> Message:
        metadata = dict(context.invocation_metadata())
        left = context.time_remaining()
        # gRPC has a very large number for a caller without a deadline.
        timeout = left if left < 1e9 else None
        server.requests.append(Request(method.name, message, metadata, timeout))
        return message

    def requests(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        return (note(one, context) for one in (request if method.client_streaming else [request]))

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        with _answering(context):
            [asked] = requests(request, context)
            return server.answer(method.name, asked)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with _answering(context):
            yield from server.answers_to(method.name, requests(request, context))

    streams = method.server_streaming
    return _MAKERS[method.client_streaming, streams](
        many if streams else one,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


_MAKERS: dict[tuple[bool, bool], Callable[..., "grpc.RpcMethodHandler[Any, Any]"]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@contextmanager
def _answering(context: grpc.ServicerContext) -> Generator[None, None, None]:
    """Answers under the caller's request id; a Failure becomes the status of the call."""
    request_id = dict(context.invocation_metadata()).get(REQUEST_ID_KEY) or "fake"
    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
    try:
        yield
    except Failure as failure:
        status = failure.status()
        details = (DETAILS_KEY, status.SerializeToString())
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id), details))
        context.abort(CODES[status.code], status.message)


def _with_receipt(answer: Message, request: Message) -> Message:
    """The answer, with a receipt if it has room for one and none of its own."""
    fields = kind_of(answer).fields_by_name
    if "receipt" not in fields or answer.HasField("receipt"):
        return answer
    if getattr(request, "estimate_only", False):
        return answer
    copy: Any = _copy(answer)
    copy.receipt.CopyFrom(receipt_for(with_defaults(request)))
    if "estimated_cost" in fields:
        copy.receipt.cost.CopyFrom(copy.estimated_cost)
    return copy


def _under_id(answer: Message, request: Message) -> Message:
    """The answer with the request's id, where both have one."""
    if not all("id" in kind_of(message).fields_by_name for message in (answer, request)):
        return answer
    copy: Any = _copy(answer)
    copy.id = cast(Any, request).id
    return copy


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
