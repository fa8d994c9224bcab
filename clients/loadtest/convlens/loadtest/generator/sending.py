"""Sends one request, and notes what came of it."""

import asyncio
import math
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from convlens.client import ConvLensError, Internal, Overloaded, Unavailable
from convlens.client._errors import REQUEST_ID_KEY, Call, from_rpc_error, from_status
from convlens.client._sending import sender
from convlens.client._transport import PRIORITY_KEY, Patience
from convlens.loadtest.generator.answers import finder
from convlens.loadtest.generator.channels import Connection, Connections
from convlens.loadtest.generator.orders import Caller, Due, Orders
from convlens.loadtest.generator.recording import Recorder
from convlens.loadtest.traffic.rpcs import Prepared, response_kind

# Seconds for which a token read from its file holds.
TOKEN_HOLDS = 1.0
# Seconds after a failure before its caller sends more, where the server did not say how long.
AFTER_FAILURE = 0.01


@dataclass(slots=True)
class Heard:
    """What came of an attempt."""

    first: float = math.nan
    broken: int = 0


class Sender:
    """Sends requests of all calls for all callers."""

    def __init__(self, orders: Orders, recorder: Recorder, rng: random.Random) -> None:
        self.connections = Connections(orders.servers, orders.channels, orders.renew_after)
        self._orders = orders
        self._recorder = recorder
        self._rng = rng
        self._kinds = [response_kind(call.rpc) for call in orders.calls]
        self._metadata: dict[int, tuple[float, tuple[tuple[str, str], ...]]] = {}

    async def send(self, due: Due) -> float:
        """Sends it until it is answered or there is no patience; when its caller may send more.

        That is now, or after a failure when the server said.
        """
        call = self._orders.calls[due.call]
        variant = self._rng.choice(call.variants)
        patience = Patience(call.deadline, self._orders.attempts)
        sent, heard, reason, attempts, pause = time.monotonic(), Heard(), 0, 0, 0.0
        self._recorder.in_flight += 1
        try:
            while True:
                attempts += 1
                try:
                    heard = await self._attempt(due, call, variant, patience.remaining)
                    break
                except (Overloaded, Unavailable) as error:
                    await asyncio.sleep(patience.pause(error))
        except ConvLensError as error:
            reason = self._recorder.reason(error)
            pause = max(AFTER_FAILURE, error.retry_after or 0.0)
        finally:
            self._recorder.in_flight -= 1
        now = time.monotonic()
        self._recorder.add(
            (
                *(due.stage.number, due.call, due.caller, reason),
                *(attempts, heard.broken),
                *(due.at - due.stage.epoch, sent - due.at, now - due.at, heard.first - due.at),
            )
        )
        return now + pause

    async def _attempt(
        self, due: Due, call: Prepared, variant: Sequence[bytes], timeout: float
    ) -> Heard:
        connection = self.connections.take()
        try:
            return await self._heard(connection, due, call, variant, timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, Call(connection.address, call.path)) from None
        except DecodeError as error:
            raise Internal(f"The answer to {call.rpc} does not parse: {error}") from error
        finally:
            self.connections.give_back(connection)

    async def _heard(
        self,
        connection: Connection,
        due: Due,
        call: Prepared,
        variant: Sequence[bytes],
        timeout: float,
    ) -> Heard:
        options = {"timeout": timeout, "metadata": self._said_by(due.caller, call)}
        multi = connection.call(call.kind, call.path)
        kind, heard = self._kinds[due.call], Heard()
        if call.kind == "unary":
            self._look(due, kind, await multi(variant[0], **options), heard)
            return heard
        answers = _stream(multi, call, variant, options)
        async with aclosing(answers):
            async for answer in answers:
                if math.isnan(heard.first):
                    heard.first = time.monotonic()
                self._look(due, kind, answer, heard)
        return heard

    def _look(self, due: Due, kind: type[Message], answer: bytes, heard: Heard) -> None:
        for status in finder(kind)(kind.FromString(answer)):
            error = from_status(status)
            self._recorder.add_broken(due, error.reason or error.code.name)
            heard.broken += 1

    def _said_by(self, caller: int, call: Prepared) -> tuple[tuple[str, str], ...]:
        """What travels beside a request: an id of its own, its priority, who sends it."""
        held = self._metadata.get(caller)
        now = time.monotonic()
        who: Caller = self._orders.callers[caller]
        if held is None or now - held[0] > TOKEN_HOLDS:
            held = self._metadata[caller] = (now, who.security.metadata())
        priority = call.priority or who.priority
        return ((REQUEST_ID_KEY, uuid.uuid4().hex), (PRIORITY_KEY, priority), *held[1])


async def _stream(
    multi: Any, call: Prepared, variant: Sequence[bytes], options: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    """The messages of a streamed answer; requests are sent beside it."""
    if call.kind == "server_stream":
        answers = multi(variant[0], **options)
        async for answer in answers:
            yield answer
        return
    answers = multi(**options)
    writer = asyncio.create_task(_write(answers, variant))
    try:
        async for answer in answers:
            yield answer
    finally:
        answers.cancel()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _write(answers: Any, messages: Sequence[bytes]) -> None:
    send = sender(answers)
    await answers.wait_for_connection()
    for message in messages:
        await send(message)
    await answers.done_writing()
