"""The catalogue: each reason has its code and sentence, and survives the way to the caller."""

from base64 import b64encode
from string import printable
from typing import Any
from urllib.parse import quote

import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import (
    MAX_VIOLATIONS,
    code_name,
    keys_of,
    reason_name,
    reason_number,
    rule_of,
)

REASONS = [reason for reason in ErrorReason.values() if reason]
TRAILING_METADATA_LIMIT = 8192


def example(reason) -> Failure:
    values: dict[str, Any] = {key: f"<{key}>" for key in keys_of(reason)}
    return Failure(reason, retry_after=0.25 if rule_of(reason).retryable else None, **values)


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_every_reason_has_a_code_and_a_sentence(reason) -> None:
    rule = rule_of(reason)
    assert code_name(rule.code) not in ("OK", "UNKNOWN")
    assert rule.sentence.endswith(".")
    again = ("QUEUE_FULL", "OVERLOADED", "DEADLINE_TOO_SHORT", "QUOTA_EXCEEDED")
    assert rule.retryable == (code_name(rule.code) == "UNAVAILABLE" or reason_name(reason) in again)


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_every_failure_comes_back_from_its_status(reason) -> None:
    failure = example(reason)
    back = Failure.from_status(Status.FromString(failure.status().SerializeToString()))
    assert back is not None
    assert (back.reason, str(back), back.metadata) == (reason, str(failure), failure.metadata)
    assert back.retry_after == failure.retry_after
    assert reason_number(reason_name(reason)) == reason


def test_violations_travel_and_are_told_in_words() -> None:
    broken = [BadRequest.FieldViolation(field="top_k", description="is 0; must be at least 1")]
    failure = Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=broken)
    assert str(failure) == "The request is not valid: top_k is 0; must be at least 1."
    back = Failure.from_status(failure.status())
    assert back is not None
    assert back.violations == broken


def test_a_flood_of_violations_fits_into_the_metadata() -> None:
    broken = [
        BadRequest.FieldViolation(field=f"layers[{i}].layer", description="must not be empty " * 3)
        for i in range(256)
    ]
    status = Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=broken).status()
    assert on_the_wire(status) < TRAILING_METADATA_LIMIT
    assert f"and {256 - MAX_VIOLATIONS} more" in status.message or status.message.endswith("….")


def on_the_wire(status: Status) -> int:
    """The bytes of the metadata in which gRPC sends a status."""
    message = quote(status.message, safe=printable.replace("%", ""))
    return len(message) + len(b64encode(status.SerializeToString()))


@pytest.mark.parametrize("letter", ["x", "%", "é", "🦊", "\0"])
def test_long_texts_are_cut(letter: str) -> None:
    failure = Failure(
        ErrorReason.ERROR_REASON_IMAGE_UNREADABLE, detail=letter * 10_000, formats="JPEG"
    )
    assert failure.metadata["detail"].startswith(letter * 50)
    assert on_the_wire(failure.status()) < TRAILING_METADATA_LIMIT
    back = Failure.from_status(failure.status())
    assert str(back) == str(failure), "it is cut once"


@pytest.mark.parametrize("letter", ["x", "🦊"])
@pytest.mark.parametrize("count", [1, 100])
def test_long_violations_are_cut(letter: str, count: int) -> None:
    broken = [BadRequest.FieldViolation(field="label", description=letter * 10_000)] * count
    failure = Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=broken)
    assert on_the_wire(failure.status()) < TRAILING_METADATA_LIMIT
    back = Failure.from_status(failure.status())
    assert back is not None and back.violations and str(back) == str(failure)


def test_a_missing_key_is_a_defect_that_shows() -> None:
    with pytest.raises(KeyError):
        Failure(ErrorReason.ERROR_REASON_QUEUE_FULL)


def test_foreign_statuses_are_not_ours() -> None:
    assert Failure.from_status(Status(code=13, message="x")) is None
    other = example(ErrorReason.ERROR_REASON_CANCELLED).status()
    unpacked = other.details[0]
    unpacked.value = unpacked.value.replace(b"convlens", b"whatever")
    assert Failure.from_status(other) is None
