"""Every error that this package raises.

    ConvLensError
      InvalidRequest           also a ValueError: the request breaks the contract
        InvalidImage           an image that is none, or none that the network takes
          ImageFileError       also an OSError: its file cannot be read
            ImageFileNotFound  also a FileNotFoundError
        MessageTooLarge        the message is above max_message_bytes of a side
      FailedPrecondition       the method does not apply to the network
      NotFound                 no such network, layer, class or service
      AlreadyExists
      PermissionDenied         your token lacks a scope
      Unauthenticated          no token, or none that the server knows
      Overloaded               the server is full; `retry_after` says when to come back
        QuotaExceeded          your token has used up what it may ask for in a time
      Aborted
      Cancelled                the call was cancelled, or the client was closed under it
      DeadlineExceeded         also a TimeoutError: the time allowed was over
      Unavailable              also a ConnectionError: no server answers
      Unimplemented            this server does not know the RPC
      Internal                 a defect of the server, or an answer that makes no sense

Errors of gRPC are translated in `translated`, and nowhere else.
"""

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from convlens.contract import DOMAIN, ErrorReason, Failure

REQUEST_ID_KEY = "x-request-id"
DETAILS_KEY = "grpc-status-details-bin"

M = TypeVar("M", bound=Message)
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that breaks its rule."""

    field: str
    description: str


class ConvLensError(Exception):
    """The base of every error of this package; its text says what was wrong and what to do."""

    default_code = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        retry_after: float | None = None,
        violations: Iterable[Violation] = (),
        metadata: dict[str, str] | None = None,
        request_id: str = "",
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: The reason in the error catalogue, "QUEUE_FULL"; empty where it is not of the catalogue.
        self.reason = reason
        self.code = code or self.default_code
        #: Seconds after which the same call may succeed; None where it is no use to wait.
        self.retry_after = retry_after
        self.violations = tuple(violations)
        #: The facts that the message is made of, by name.
        self.metadata = metadata or {}
        #: The id under which the server's log has this call; empty where none was sent.
        self.request_id = request_id
        #: The position of the item that failed, in a list or a stream; None for a whole call.
        self.index = index

    def __str__(self) -> str:
        return self.message if self.index is None else f"item {self.index}: {self.message}"


class InvalidRequest(ConvLensError, ValueError):
    """The request breaks the contract; `violations` names every field at once."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class InvalidImage(InvalidRequest):
    """An image is none, or none that the network takes, whichever side found it out."""


class ImageFileError(InvalidImage, OSError):
    """The file of an image cannot be read."""


class ImageFileNotFound(ImageFileError, FileNotFoundError):
    """The file of an image does not exist."""


class MessageTooLarge(InvalidRequest):
    """A message is larger than one of the sides allows."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(ConvLensError):
    """The method does not apply to the network."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class NotFound(ConvLensError):
    """No such network, layer, class or service."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(ConvLensError):
    """What was to be made is there already."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDenied(ConvLensError):
    """The caller may not do this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(ConvLensError):
    """The server does not know who calls."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class Overloaded(ConvLensError):
    """The server is full; `retry_after` says when to come back."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class QuotaExceeded(Overloaded):
    """The token has used up what it may ask for in a time."""


class Aborted(ConvLensError):
    """The server gave the call up."""

    default_code = grpc.StatusCode.ABORTED


class Cancelled(ConvLensError):
    """The call was cancelled, or the client was closed under it."""

    default_code = grpc.StatusCode.CANCELLED


class DeadlineExceeded(ConvLensError, TimeoutError):
    """The time allowed for the call was over."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(ConvLensError, ConnectionError):
    """No server answers, or it is stopping."""

    default_code = grpc.StatusCode.UNAVAILABLE


class Unimplemented(ConvLensError):
    """This server does not know the RPC."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class Internal(ConvLensError):
    """A defect of the server, or an answer that makes no sense."""

    default_code = grpc.StatusCode.INTERNAL


CLASSES: dict[grpc.StatusCode, type[ConvLensError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: Internal,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: Internal,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


# Reasons that say more than their code.
CLASSES_OF_REASONS: dict[str, type[ConvLensError]] = {
    "MESSAGE_TOO_LARGE": MessageTooLarge,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "IMAGE_EMPTY": InvalidImage,
    "IMAGE_UNREADABLE": InvalidImage,
    "IMAGE_TOO_LARGE": InvalidImage,
    "TENSOR_INVALID": InvalidImage,
    "GEOMETRY_MISMATCH": InvalidImage,
}


# What grpc.aio says, with INTERNAL, where a call ended while its request was still written: the
# server's status is lost.
LOST_STATUS = "Internal error from Core"
# What gRPC says where two sides cannot come together, and what it means.
MEANINGS = {
    re.compile(f"^{LOST_STATUS}$"): "it ended the call, and why was lost on the way",
    re.compile("CERTIFICATE_VERIFY_FAILED"): "its certificate is of no authority that is trusted",
    re.compile("Hostname Verification"): "its certificate is for another name than this address",
    re.compile("before receiving SETTINGS frame"): (
        "it takes connections and says nothing; it may be starting, very busy, or no server of this"
    ),
    re.compile("WRONG_VERSION_NUMBER"): "it speaks no TLS there",
    re.compile("connections to all backends failing.*Socket closed"): (
        "it hung up at once; it may want TLS, or a certificate of yours that it trusts"
    ),
}


@dataclass(frozen=True, slots=True)
class Call:
    """What an error may say about the call that it ended."""

    address: str = ""
    path: str = ""
    request_id: str = ""
    # What the server does not have where it says NOT_FOUND and no more.
    missing: str = ""
    # Seconds to wait where gRPC found no server; a server that answers says it by itself.
    retry_after: float = field(default=1.0)


@contextmanager
def translated(call: Call) -> Generator[None, None, None]:
    """The one seam: turns errors of gRPC and of protobuf into those of this package."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, call) from error
    except DecodeError as error:
        text = f"The answer of {call.address} to {call.path} does not parse: {error}"
        raise Internal(text, request_id=call.request_id) from error


def from_rpc_error(error: grpc.RpcError, call: Call) -> ConvLensError:
    """The error of this package that an error of gRPC stands for."""
    trailer = {key: value for key, value in _trailing(error)}
    request_id = str(trailer.get(REQUEST_ID_KEY) or call.request_id)
    status = _parsed(Status, trailer.get(DETAILS_KEY))
    if status is None:
        status = _without_details(error.code(), error.details() or "", call)
    return from_status(status, request_id=request_id)


def from_status(status: Status, *, request_id: str = "") -> ConvLensError:
    """The error that a status stands for, of a call or of one of its items."""
    info = _detail(status, ErrorInfo) or ErrorInfo()
    bad = _detail(status, BadRequest) or BadRequest()
    retry = _detail(status, RetryInfo)
    code = CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason = info.reason if info.domain == DOMAIN else ""
    kind = CLASSES_OF_REASONS.get(reason) or CLASSES.get(code, Internal)
    return kind(
        status.message or "The server sent neither an answer nor an error.",
        reason=reason,
        code=code,
        retry_after=max(0.0, retry.retry_delay.ToNanoseconds() / 1e9) if retry else None,
        violations=[Violation(v.field, v.description) for v in bad.field_violations],
        metadata=dict(info.metadata),
        # Within a stream or a batch the server gives each item an id of its own.
        request_id=info.metadata.get("request_id", "") or request_id,
    )


def local(kind: type[ConvLensError], failure: Failure) -> ConvLensError:
    """An error of the catalogue that was found before anything was sent."""
    error = from_status(failure.status())
    return kind(error.message, reason=error.reason, code=error.code, metadata=error.metadata)


def _trailing(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    # An error without a call behind it has no metadata; the two worlds have different types of it.
    get = cast(Callable[[], Any] | None, getattr(error, "trailing_metadata", None))
    return cast(Iterable[tuple[str, str | bytes]], (get() if get else None) or ())


def _detail(status: Status, kind: type[M]) -> M | None:
    for detail in status.details:
        if detail.Is(cast(Any, kind.DESCRIPTOR)):
            return _parsed(kind, detail.value)
    return None


def _parsed(kind: type[M], data: object) -> M | None:
    """The message, or None where `data` is none: what a proxy made up must not hide the error."""
    if not isinstance(data, bytes):
        return None
    with suppress(DecodeError):
        return kind.FromString(data)
    return None


def _without_details(code: grpc.StatusCode, text: str, call: Call) -> Status:
    """The status for an error that gRPC made by itself, on either side or on the way."""
    failure: Failure | None = None
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
        failure = Failure(ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE, detail=text)
    elif code is grpc.StatusCode.UNAVAILABLE or text == LOST_STATUS:
        failure = Failure(
            ErrorReason.ERROR_REASON_SERVER_UNREACHABLE,
            retry_after=call.retry_after,
            address=call.address,
            detail=_short(text),
        )
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        stage = f"before {call.address} had answered"
        failure = Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage=stage)
    elif code is grpc.StatusCode.CANCELLED:
        failure = Failure(ErrorReason.ERROR_REASON_CANCELLED)
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        failure = Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc=call.path)
    if failure is not None:
        return failure.status()
    if code is grpc.StatusCode.NOT_FOUND and call.missing and not text:
        text = f"The server at {call.address} has {call.missing}."
    message = text or f"{call.address} answered {code.name} to {call.path} without saying why."
    return Status(code=code.value[0], message=message)


def _short(text: str) -> str:
    """The cause in gRPC's chain: "Connection refused (111)", or what went wrong."""
    for sign, words in MEANINGS.items():
        if sign.search(text):
            return words
    match = re.search(r"(?:Failed to connect to remote host|connect): ([^:]*)$", text)
    return (match.group(1) if match else text or "the connection was lost").rstrip(".")
