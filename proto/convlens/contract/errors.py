"""The error catalogue: reasons, their codes and sentences, and the statuses that carry them."""

from collections.abc import Sequence
from string import Formatter
from typing import TypeAlias

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from convlens.v1 import error_pb2, options_pb2

DOMAIN = "convlens"
# When a caller may try again whom a full queue or a missing worker turned away.
RETRY_SECONDS = 0.25
PREFIX = "ERROR_REASON_"
# gRPC cuts off a call whose trailing metadata is above 8 KiB, so an error must stay well below it.
MAX_VIOLATIONS = 16
MAX_TEXT = 1000
MAX_VIOLATION_BYTES = 2000

ErrorReason = error_pb2.ErrorReason
Reason: TypeAlias = error_pb2.ErrorReason.ValueType


def rule_of(reason: Reason) -> options_pb2.ErrorRule:
    """The catalogue's row of a reason."""
    value = ErrorReason.DESCRIPTOR.values_by_number[reason]
    return value.GetOptions().Extensions[options_pb2.error]


def keys_of(reason: Reason) -> list[str]:
    """The metadata that every error of this reason carries, in the order of its sentence."""
    return [key for _, key, _, _ in Formatter().parse(rule_of(reason).sentence) if key]


class Failure(Exception):
    """An error of the catalogue on its way to its caller.

    `metadata` fills the braces of the reason's sentence and travels in the ErrorInfo: it must have
    the keys of `keys_of(reason)`. `retry_after` is in seconds; a retryable reason needs it.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        violations: Sequence[BadRequest.FieldViolation] = (),
        retry_after: float | None = None,
        **metadata: object,
    ) -> None:
        if violations:
            metadata.setdefault("problems", _in_words(violations))
        self.reason: Reason = reason
        self.violations = list(violations)
        self.retry_after = retry_after
        self.metadata = {key: _short(str(value)) for key, value in metadata.items()}
        sentence = rule_of(reason).sentence.format(**self.metadata)
        # A suggestion ends in a question mark, and a sentence in one mark.
        super().__init__(sentence.replace("?.", "?"))

    @property
    def code(self) -> int:
        """The number of its gRPC status code."""
        return int(rule_of(self.reason).code)

    def status(self) -> Status:
        """The status: an ErrorInfo always, BadRequest and RetryInfo where they apply."""
        details: list[ErrorInfo | BadRequest | RetryInfo] = [
            ErrorInfo(reason=reason_name(self.reason), domain=DOMAIN, metadata=self.metadata)
        ]
        if self.violations:
            details.append(_few(self.violations))
        if self.retry_after is not None:
            delay = Duration()
            delay.FromMilliseconds(round(self.retry_after * 1000))
            details.append(RetryInfo(retry_delay=delay))
        packed: list[Any] = []
        for detail in details:
            packed.append(Any())
            packed[-1].Pack(detail)
        return Status(code=self.code, message=str(self), details=packed)

    @classmethod
    def from_status(cls, status: Status) -> "Failure | None":
        """The failure that `status` was written from, or None where it is not of the catalogue."""
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        for detail in status.details:
            # Unpack leaves a message alone that is of another type.
            for part in (info, bad, retry):
                detail.Unpack(part)
        reason = reason_number(info.reason) if info.domain == DOMAIN else None
        if reason is None or not set(keys_of(reason)) <= set(info.metadata):
            return None
        return cls(
            reason,
            violations=list(bad.field_violations),
            retry_after=retry.retry_delay.ToTimedelta().total_seconds()
            if retry.HasField("retry_delay")
            else None,
            **dict(info.metadata),
        )


def reason_name(reason: Reason) -> str:
    """The reason as ErrorInfo has it: "QUEUE_FULL"."""
    return ErrorReason.Name(reason).removeprefix(PREFIX)


def reason_number(name: str) -> Reason | None:
    """The reason of an ErrorInfo, or None where this version of the contract does not know it."""
    known = ErrorReason.DESCRIPTOR.values_by_name.get(PREFIX + name)
    return error_pb2.ErrorReason.ValueType(known.number) if known else None


def code_name(code: int) -> str:
    """The name of a gRPC status code: "INVALID_ARGUMENT"."""
    return Code.Name(Code.ValueType(code))


def _in_words(violations: Sequence[BadRequest.FieldViolation]) -> str:
    shown = [f"{item.field} {item.description}" for item in violations[:MAX_VIOLATIONS]]
    more = len(violations) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _few(violations: Sequence[BadRequest.FieldViolation]) -> BadRequest:
    """The first of them that there is room for; all of them are counted in the words."""
    shown = BadRequest()
    for item in violations[:MAX_VIOLATIONS]:
        shown.field_violations.add(field=item.field, description=_short(item.description))
        if shown.ByteSize() > MAX_VIOLATION_BYTES:
            del shown.field_violations[-1]
            break
    return shown


def _short(text: str) -> str:
    """Cut where it would take more than MAX_TEXT on the wire."""
    end, size = 0, 0
    for at, letter in enumerate(text):
        size += _wire_size(letter)
        if size <= MAX_TEXT - _wire_size(_CUT):
            end = at + 1
        elif size > MAX_TEXT:
            return text[:end] + _CUT
    return text


def _wire_size(letter: str) -> int:
    """Bytes of a letter in the message of a status, where é is %C3%A9."""
    plain = " " <= letter <= "~" and letter != "%"
    return 1 if plain else 3 * len(letter.encode("utf-8", "replace"))


_CUT = "…"
