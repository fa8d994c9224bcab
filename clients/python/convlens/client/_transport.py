"""How both clients reach the server: settings, channel options, retries."""

import math
import os
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from google.protobuf.message import Message

from convlens.client._errors import (
    REQUEST_ID_KEY,
    Call,
    InvalidRequest,
    MessageTooLarge,
    Overloaded,
    Unavailable,
    local,
)
from convlens.client._security import Security, is_local
from convlens.client._tracing import traced
from convlens.contract import ErrorReason, Failure

ADDRESS_VARIABLE = "CONVLENS_SERVER"
DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 60.0
MAX_MESSAGE_BYTES = 64 * 2**20
MAX_ATTEMPTS = 5
PRIORITY_KEY = "x-convlens-priority"
PRIORITIES = ("interactive", "batch")
# What gRPC counts bytes with.
MOST_BYTES = 2**31 - 1
# Seconds before the second attempt where no server answered.
FIRST_PAUSE = 0.1
# Likewise of a stream, which has more time: five attempts outlast the restart of a server.
FIRST_PAUSE_OF_STREAM = 0.5
# Seconds that stand for "as long as it takes": gRPC counts no further than about 292 years.
LONGEST = 366 * 86_400.0
HOST_AND_PORT = re.compile(r"(?:\[[^\s\[\]]+\]|[^\s:/@\[\]]+):(\d{1,5})")
# Other names that gRPC understands.
SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was made with; times in seconds, sizes in bytes."""

    address: str
    timeout: float
    max_message_bytes: int
    max_attempts: int
    priority: str
    security: Security

    @classmethod
    def of(
        cls,
        address: str | None,
        timeout: float,
        max_message_bytes: int,
        max_attempts: int,
        priority: object,
        security: Callable[[str], Security],
    ) -> "Settings":
        """The settings, checked; without an address, that of the environment.

        `security` says what suits an address.
        """
        chosen = os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
        checked = check_address(chosen if address is None else address)
        return cls(
            checked,
            check_timeout(timeout),
            check_count("max_message_bytes", max_message_bytes, MOST_BYTES),
            check_count("max_attempts", max_attempts),
            check_priority(priority),
            security(checked),
        )

    def channel_options(self) -> list[tuple[str, Any]]:
        """The options of the channel; keepalive is for calls only, so an idle client is silent."""
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            # Every replica behind a name gets its share.
            ("grpc.lb_policy_name", "round_robin"),
            # A replica that takes the place of another has another address; gRPC alone would look
            # no more often than every half minute.
            ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 0),
            # A stream that waits for its next answer sends nothing, and must be watched too.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        if is_local(self.address):
            # What runs on this machine is not behind the proxy of the environment.
            options.append(("grpc.enable_http_proxy", 0))
        return options

    def patience(self, timeout: float | None) -> "Patience":
        """The attempts and the time of one operation."""
        return Patience(time_of(timeout) or self.timeout, self.max_attempts)

    def patience_of_stream(self, timeout: float | None) -> "Patience":
        """The attempts without an answer and the time of a stream, all there is without one."""
        total = time_of(timeout) or math.inf
        return Patience(total, self.max_attempts, FIRST_PAUSE_OF_STREAM)

    @contextmanager
    def calling(
        self, path: str, missing: str = ""
    ) -> Generator[tuple[Call, tuple[tuple[str, str], ...]], None, None]:
        """A call under an id of its own, until the block ends, and what travels beside it."""
        call = Call(self.address, path, uuid.uuid4().hex, missing)
        named = (REQUEST_ID_KEY, call.request_id), (PRIORITY_KEY, self.priority)
        with traced(call) as trace:
            yield call, (*named, *self.security.metadata(), *trace)

    def wire(self, request: Message) -> bytes:
        """The request's bytes; MessageTooLarge where the channel would refuse them."""
        data = request.SerializeToString()
        self.check_size(len(data))
        return data

    def check_size(self, size: int) -> None:
        """Raises MessageTooLarge where the channel would refuse a message of so many bytes."""
        if size > self.max_message_bytes:
            reason = ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE
            detail = f"{size} bytes of at most {self.max_message_bytes}"
            raise local(MessageTooLarge, Failure(reason, detail=detail))


def check_address(address: object) -> str:
    """The address, or InvalidRequest where gRPC would look for it in vain."""
    if isinstance(address, str) and address.isprintable():
        match = HOST_AND_PORT.fullmatch(address)
        if (match and 0 < int(match[1]) < 2**16) or address.startswith(SCHEMES):
            return address
    raise InvalidRequest(
        f"The address is {address!r}; it must be 'host:port', as '127.0.0.1:50051'."
    )


def check_priority(priority: object) -> str:
    """The priority, or InvalidRequest where there is none of that name."""
    if isinstance(priority, str) and priority in PRIORITIES:
        return priority
    raise InvalidRequest(f"priority is {priority!r}; it must be {' or '.join(PRIORITIES)}.")


def check_timeout(timeout: Any) -> float:
    """The timeout as gRPC takes it, or InvalidRequest where it is none."""
    if _is_number(timeout, Real) and timeout > 0:
        return float(timeout) if timeout < LONGEST else LONGEST
    raise InvalidRequest(f"timeout is {timeout!r}; it must be a number of seconds above 0.")


def time_of(timeout: float | None) -> float | None:
    """The timeout as gRPC takes it, or None where there is none."""
    return None if timeout is None else check_timeout(timeout)


def check_count(name: str, value: Any, most: int = sys.maxsize) -> int:
    """The number, or InvalidRequest where it is no whole one from 1 to `most`."""
    if _is_number(value, Integral) and 1 <= value <= most:
        return int(value)
    end = f"to {most}" if most < sys.maxsize else "on"
    raise InvalidRequest(f"{name} is {value!r}; it must be a whole number from 1 {end}.")


def _is_number(value: object, kind: type[Any]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(slots=True)
class Patience:
    """How often and how long one operation is tried, where the server is full or away.

    A stream of items that breaks goes on with what was not answered. gRPC's own retries are not
    used, because a stream that they hold on to hangs for ever, past its deadline, when its server
    dies before the first answer (seen with 1.81).
    """

    timeout: float
    attempts: int
    first_pause: float = FIRST_PAUSE
    failures: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def remaining(self) -> float:
        """Seconds left for the next attempt."""
        return max(0.0, self.started + self.timeout - time.monotonic())

    def pause(self, error: Overloaded | Unavailable) -> float:
        """Seconds to wait before the next attempt; raises `error` where there will be none.

        A server that answers says when to come back. One that does not answer may be back at any
        time: each wait for it is twice the one before. All waits are stretched at random, so that
        callers who were refused together do not come back together.
        """
        self.failures += 1
        lost = error.reason == "SERVER_UNREACHABLE"
        delay = self.first_pause * 2 ** (self.failures - 1) if lost else error.retry_after
        if delay is None or self.failures >= self.attempts:
            raise error
        stretched = delay * random.uniform(1.0, 1.5)
        if stretched >= self.remaining:
            raise error
        return stretched

    def restore(self) -> None:
        """Something was answered: all attempts are there again."""
        self.failures = 0
