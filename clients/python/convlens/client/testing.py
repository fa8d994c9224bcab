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
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2

from convlens.client._errors import CODES, DETAILS_KEY, REQUEST_ID_KEY
from convlens.contract import ErrorReason, Failure, digest, violations, with_defaults
from convlens.contract.rules import kind_of
from convlens.v1 import (
    adversarial_pb2,
    classification_pb2,
    explanation_pb2,
    feature_pb2,
    network_pb2,
    receipt_pb2,
    synthesis_pb2,
)

#: The network that a FakeServer has.
NAME = "pets"

#: A message, an error, or a function that gives or raises one: of the request for an RPC with one
#: request, of the iterator of requests (and then giving an iterator) for a stream. A message is the
#: answer to each request of a stream, under the request's id.
Answer: TypeAlias = Message | Failure | Callable[[Any], Any]

SERVICES = [
    service
    for module in (
        *(adversarial_pb2, classification_pb2, explanation_pb2, feature_pb2, health_pb2),
        *(network_pb2, synthesis_pb2),
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"/{m.containing_service.full_name}/{m.name}": m for s in SERVICES for m in s.methods}
RPCS = sorted({method.name for method in METHODS.values()})


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
    "GetNetwork"; a name of none is a ValueError. Without one for ClassifyStream, its requests are
    answered one by one as Classify would, and a Failure becomes the answer to its request.
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
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
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
        if rpc == "ClassifyStream" and rpc not in self.answers:
            return map(self._classify_one, requests)
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

    def _classify_one(
        self, item: classification_pb2.ClassifyStreamRequest
    ) -> classification_pb2.ClassifyStreamResponse:
        response = classification_pb2.ClassifyStreamResponse
        try:
            return response(id=item.id, response=self.answer("Classify", item.request))
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


def _classify(
    request: classification_pb2.ClassifyRequest,
) -> classification_pb2.ClassifyResponse:
    """A cat in every image; an error for an image without pixels."""
    _check_network(request.network)
    scores = [
        classification_pb2.ClassScore(class_index=0, label="cat", probability=0.9, logit=2.0),
        classification_pb2.ClassScore(class_index=1, label="dog", probability=0.1, logit=-0.2),
    ]
    if request.top_k > len(scores):
        words = f"is {request.top_k}; must be at most 2, the classes of this network"
        problem = BadRequest.FieldViolation(field="top_k", description=words)
        raise Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=[problem])
    answer = classification_pb2.Classification(classes=scores[: request.top_k or None])
    empty = Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats="PNG").status()
    results = [
        classification_pb2.ClassifyResult(classification=answer)
        if image.encoded or image.HasField("tensor")
        else classification_pb2.ClassifyResult(error=empty)
        for image in request.images
    ]
    return classification_pb2.ClassifyResponse(results=results)


def _check_network(name: str) -> None:
    if name not in ("", NAME, f"{NAME}@1"):
        reason = ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND
        raise Failure(reason, network=name, served=f"{NAME}@1")


def _with_receipt(answer: Message, request: Message) -> Message:
    """The answer, with a receipt if it has room for one and none of its own."""
    fields = kind_of(answer).fields_by_name
    if "receipt" not in fields or answer.HasField("receipt"):
        return answer
    copy: Any = _copy(answer)
    copy.receipt.CopyFrom(
        receipt_pb2.Receipt(
            network=NAME,
            network_version="1",
            network_digest=digest(NAME.encode()),
            request_digest=digest(with_defaults(request).SerializeToString()),
            convlens_version="fake",
            device_kind="cpu",
            threads=1,
            precision=receipt_pb2.PRECISION_FLOAT32,
        )
    )
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


def _get_network(request: network_pb2.GetNetworkRequest) -> network_pb2.GetNetworkResponse:
    _check_network(request.network)
    network = network_pb2.Network(
        name=NAME,
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=["cat", "dog"],
        input=network_pb2.InputGeometry(height=32, width=32, channels=3),
        precision=receipt_pb2.PRECISION_FLOAT32,
        device_kind="cpu",
        traffic_weight=1,
    )
    return network_pb2.GetNetworkResponse(network=network)


def _list_pretrained(
    request: network_pb2.ListPretrainedRequest,
) -> network_pb2.ListPretrainedResponse:
    """ResNet-18's weights, with what torchvision says of them."""
    weights = network_pb2.PretrainedWeights(
        network="resnet18",
        weights="IMAGENET1K_V1",
        is_default=True,
        accuracy=network_pb2.Accuracy(dataset="ImageNet-1K validation", top1=0.69758, top5=0.89078),
        parameters=11_689_512,
        multiply_adds=1_814_000_000,
        file_bytes=46_830_453,
        input=network_pb2.InputGeometry(
            height=224,
            width=224,
            channels=3,
            resize=256,
            interpolation=network_pb2.INTERPOLATION_BILINEAR,
        ),
        classes=1000,
        recipe="https://github.com/pytorch/vision/tree/main/references/classification#resnet",
    )
    found = [weights] if request.name_contains in weights.network else []
    return network_pb2.ListPretrainedResponse(weights=found, torchvision_version="fake")


def default_answers() -> dict[str, Answer]:
    """What a FakeServer says where it was told nothing else."""
    summary = network_pb2.NetworkSummary(
        name=NAME,
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        classes=2,
        is_default=True,
        traffic_weight=1,
    )
    return {
        "Classify": _classify,
        "ListNetworks": network_pb2.ListNetworksResponse(networks=[summary]),
        "GetNetwork": _get_network,
        "ListPretrained": _list_pretrained,
        "Check": health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING),
    }
