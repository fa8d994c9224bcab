"""The onion around every RPC: request id, log line, metrics, errors, deadline, drain.

Implementations raise Failure and know nothing of gRPC; `Onion.around` is the one place where an
exception becomes a status.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import grpc
import structlog
from google.protobuf.message import Message

from convlens.contract import ErrorReason, Failure, check
from convlens.contract.errors import code_name, reason_name
from convlens.contract.validation import Violation, invalid
from convlens.server.access.access import Access
from convlens.server.access.callers import ANYBODY, Caller
from convlens.server.contract import RPCS, Rpc
from convlens.server.facts import Facts, methods_of
from convlens.server.metrics import Metrics
from convlens.server.release import released
from convlens.server.tracing import UNTRACED, Trace, Tracer
from convlens.server.wire import REQUEST_ID, Context, Wire

log = structlog.get_logger(__name__)

PRIORITY = "x-convlens-priority"
PRIORITIES = ("interactive", "batch")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
PRINTABLE_ID = re.compile(r"[\w.\-]{1,64}", re.ASCII)
STOPPING_RETRY_SECONDS = 1.0
# For calls that are cut off to tell their callers so.
CUT_OFF_SECONDS = 1.0


@dataclass(frozen=True)
class Call:
    """One RPC under way. `deadline` is on `time.monotonic`; None where a stream has none."""

    rpc: Rpc
    request_id: str
    deadline: float | None
    traceparent: str
    # One of PRIORITIES, once the call is let in.
    priority: str = PRIORITIES[0]
    caller: Caller = ANYBODY
    facts: Facts = field(default_factory=Facts)
    trace: Trace = UNTRACED

    def part(self, request_id: str, deadline: float | None) -> "Call":
        """One request of a stream, as a call of its own."""
        facts = Facts()
        return self.trace.part(
            replace(self, request_id=request_id, deadline=deadline, facts=facts, trace=UNTRACED)
        )


Unary: TypeAlias = Callable[[Call, Any, bytes], Awaitable[Message | bytes]]
Replying: TypeAlias = Callable[[Call, Any, bytes], AsyncGenerator[bytes, None]]
Streaming: TypeAlias = Callable[[Call, AsyncIterator[Any]], AsyncGenerator[Message, None]]


@dataclass(frozen=True)
class Implementations:
    """What answers which path of the contract."""

    unary: Mapping[str, Unary]
    replying: Mapping[str, Replying]
    streaming: Mapping[str, Streaming]

    def services(self) -> set[str]:
        """The services of which at least one RPC is answered."""
        return {RPCS[path].service for path in (*self.unary, *self.replying, *self.streaming)}


class Onion(grpc.GenericRpcHandler):
    """Finds the implementation of each RPC of the contract, and wraps it."""

    def __init__(
        self, metrics: Metrics, default_timeout: float, access: Access, tracer: Tracer
    ) -> None:
        self.implementations = Implementations({}, {}, {})
        self._access = access
        self._tracer = tracer
        self._metrics = metrics
        self._default_timeout = default_timeout
        self._active: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._cut_off = False
        self.stopping = asyncio.Event()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """The handler of a path, over raw bytes; None for paths that nobody answers."""
        rpc = RPCS.get(handler_call_details.method)
        if rpc is None:
            return None
        caller = ANYBODY
        try:
            caller = self._access.caller(handler_call_details.invocation_metadata or ())
            caller.enter(rpc)
        except Failure as failure:
            # As a stream, of which gRPC reads nothing: who may not call fills no memory.
            return grpc.stream_stream_rpc_method_handler(self._refuse(rpc, failure, caller))
        if rpc.path in self.implementations.unary:
            return grpc.unary_unary_rpc_method_handler(released(self._answer_unary(rpc, caller)))
        if rpc.path in self.implementations.replying:
            answer = self._answer_replies(rpc, caller)
            return grpc.unary_stream_rpc_method_handler(released(answer))
        if rpc.path in self.implementations.streaming:
            answer = self._answer_stream(rpc, caller)
            return grpc.stream_stream_rpc_method_handler(released(answer))
        return None

    def _refuse(self, rpc: Rpc, failure: Failure, caller: Caller) -> Any:
        async def answer(bodies: AsyncIterator[bytes], context: Context) -> None:
            async with self.around(rpc, Wire(context), caller):
                raise failure

        return answer

    def _answer_unary(self, rpc: Rpc, caller: Caller) -> Any:
        run = self.implementations.unary[rpc.path]

        async def answer(body: bytes, context: Context) -> bytes:
            wire = Wire(context)
            async with self.around(rpc, wire, caller) as call:
                request = rpc.decode(body)
                check(request)
                call.facts.methods = methods_of(request)
                reply = await run(call, request, body)
                return reply if isinstance(reply, bytes) else reply.SerializeToString()

        return answer

    def _answer_replies(self, rpc: Rpc, caller: Caller) -> Any:
        run = self.implementations.replying[rpc.path]

        # A coroutine that writes, as below.
        async def answer(body: bytes, context: Context) -> None:
            wire = Wire(context)
            async with self.around(rpc, wire, caller) as call:
                request = rpc.decode(body)
                check(request)
                call.facts.methods = methods_of(request)
                async with aclosing(run(call, request, body)) as replies:
                    async for reply in replies:
                        await wire.write(reply)

        return answer

    def _answer_stream(self, rpc: Rpc, caller: Caller) -> Any:
        run = self.implementations.streaming[rpc.path]

        # A coroutine that writes: of a generator that yields, gRPC would not close what is left
        # when the caller is gone.
        async def answer(bodies: AsyncIterator[bytes], context: Context) -> None:
            wire = Wire(context)
            async with self.around(rpc, wire, caller) as call:
                requests = _requests(call, bodies)
                async with aclosing(run(call, requests)) as replies:
                    async for reply in replies:
                        await wire.write(reply.SerializeToString())

        return answer

    @asynccontextmanager
    async def around(self, rpc: Rpc, wire: Wire, caller: Caller) -> AsyncGenerator[Call, None]:
        """Runs the body of an RPC; what it raises becomes a status of the catalogue."""
        call = self._open(rpc, wire.context, caller)
        failure: Failure | None = None
        wire.context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        structlog.contextvars.bind_contextvars(request_id=call.request_id, rpc=rpc.name)
        if caller.name:
            structlog.contextvars.bind_contextvars(token=caller.name)
        if call.trace.id:
            structlog.contextvars.bind_contextvars(trace_id=call.trace.id)
        self._enter(rpc)
        try:
            if self.stopping.is_set():
                raise stopping()
            _check_priority(call)
            async with asyncio.timeout(_left(call)):
                yield call
        except BaseException as error:
            cut_off = self._cut_off and isinstance(error, asyncio.CancelledError)
            failure = stopping() if cut_off else failure_of(error, call)
            if isinstance(error, asyncio.CancelledError | GeneratorExit) and not cut_off:
                raise
            await wire.abort(failure.status(), call.request_id)
        finally:
            self._leave(rpc)
            self._report(call, failure, time.monotonic() - call.facts.arrived)
            call.trace.end(failure)

    def _open(self, rpc: Rpc, context: Context, caller: Caller) -> Call:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        given, trace = metadata.get(REQUEST_ID, ""), metadata.get("traceparent", "")
        left = cast("float | None", context.time_remaining())
        if left is None and not rpc.streams_in:
            left = self._default_timeout
        call = Call(
            rpc=rpc,
            request_id=given if PRINTABLE_ID.fullmatch(given) else uuid.uuid4().hex,
            deadline=None if left is None else time.monotonic() + left,
            traceparent=trace if TRACEPARENT.fullmatch(trace) else "",
            priority=metadata.get(PRIORITY, PRIORITIES[0])
            if caller.interactive_allowed
            else "batch",
            caller=caller,
        )
        return self._tracer.begin(call, metadata.get("tracestate", ""))

    def _report(self, call: Call, failure: Failure | None, seconds: float) -> None:
        code = code_name(failure.code) if failure else "OK"
        reason = reason_name(failure.reason) if failure else ""
        self._metrics.record_call(call.rpc.name, call.facts, code, reason, seconds)
        milliseconds = round(seconds * 1000, 3)
        log.info("call", code=code, reason=reason, milliseconds=milliseconds, **call.facts.told())

    def _enter(self, rpc: Rpc) -> None:
        task = asyncio.current_task()
        assert task
        self._active.add(task)
        self._idle.clear()
        self._metrics.active.add(1, rpc.name)

    def _leave(self, rpc: Rpc) -> None:
        task = asyncio.current_task()
        assert task
        self._active.discard(task)
        self._metrics.active.add(-1, rpc.name)
        if not self._active:
            self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Refuses new calls and waits for those under way.

        Where time is too short the rest is cut off, with an error that says so; then it is False.
        """
        self.stopping.set()
        if await self._all_ended(seconds):
            return True
        self._cut_off = True
        for task in list(self._active):
            task.cancel()
        await self._all_ended(CUT_OFF_SECONDS)
        return False

    async def _all_ended(self, seconds: float) -> bool:
        if not self._active:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def failure_of(error: BaseException, call: Call) -> Failure:
    """The catalogue's word for whatever ended a call; a defect of ours goes to the log."""
    if isinstance(error, Failure):
        return error
    late = call.deadline is not None and time.monotonic() >= call.deadline
    gone = isinstance(error, asyncio.CancelledError | GeneratorExit)
    if isinstance(error, TimeoutError) or (late and gone):
        return out_of_time()
    if gone:
        return Failure(ErrorReason.ERROR_REASON_CANCELLED)
    log.error("call failed", exc_info=error, request_id=call.request_id)
    return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=call.request_id)


def out_of_time() -> Failure:
    """What a caller is told whose time ended while the server waited for the answer."""
    return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="before the answer came")


def stopping() -> Failure:
    """What a caller is told whose work is not taken any more."""
    return Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=STOPPING_RETRY_SECONDS)


def _check_priority(call: Call) -> None:
    if call.priority not in PRIORITIES:
        words = f"is {call.priority!r}; must be {' or '.join(PRIORITIES)}"
        raise invalid([Violation(field=f"metadata {PRIORITY}", description=words)])


async def _requests(call: Call, bodies: AsyncIterator[bytes]) -> AsyncGenerator[Message, None]:
    """The requests of a stream, as fast as its caller may make them."""
    first = True
    async for body in bodies:
        if not first:
            await call.caller.next_request(call.rpc)
        first = False
        yield call.rpc.decode(body)


def _left(call: Call) -> float | None:
    return None if call.deadline is None else call.deadline - time.monotonic()
