"""EvaluateRobustness: any number of images, each a job of its own, and one curve."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from dataclasses import dataclass, replace

from convlens.contract import ErrorReason, Failure, check, with_defaults
from convlens.contract.deadlines import margin
from convlens.contract.errors import code_name, reason_name
from convlens.contract.robustness import check_plan
from convlens.contract.validation import Violation, invalid
from convlens.internal.v1.robustness_pb2 import RobustnessRequest, RobustnessResponse
from convlens.server.contract import RPCS
from convlens.server.curve import Curve
from convlens.server.dispatch import Dispatcher, Question
from convlens.server.facts import methods_of
from convlens.server.metrics import Metrics
from convlens.server.networks import Networks
from convlens.server.rpc import Call, failure_of
from convlens.server.streams import Room, Spawn, StreamLimits, tasks, until
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1.network_pb2 import Network
from convlens.v1.receipt_pb2 import Cost

RPC = RPCS["/convlens.v1.AdversarialService/EvaluateRobustness"]
PROGRESS_SECONDS = 1.0
# For a call without a deadline: its jobs end with it, whenever that is.
LONG_SECONDS = 7 * 24 * 3600.0
# A job that no worker takes for so long ends the evaluation, which can be gone on with later.
PATIENCE_SECONDS = 30.0
# What is no fault of an image ends the call: else the image would be lost for the curve.
OF_THE_SERVICE = frozenset(
    {
        ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE,
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        ErrorReason.ERROR_REASON_CANCELLED,
        ErrorReason.ERROR_REASON_SERVER_STOPPING,
        ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND,
    }
)


@dataclass(frozen=True)
class Finished:
    """An image that is accounted for, and the size of its request."""

    id: str
    found: RobustnessResponse | Failure
    size: int


class Tick:
    """It is time to tell of progress."""


class Late:
    """It is time to put the answer together."""


class End:
    """Nothing more will come."""


class Evaluator:
    """Answers EvaluateRobustness."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        networks: Networks,
        metrics: Metrics,
        limits: StreamLimits,
        stop: asyncio.Event,
    ) -> None:
        self._dispatcher = dispatcher
        self._networks = networks
        self._metrics = metrics
        self._limits = limits
        self._stop = stop

    async def run(
        self, call: Call, requests: AsyncIterator[pb.EvaluateRobustnessRequest]
    ) -> AsyncGenerator[pb.EvaluateRobustnessResponse, None]:
        """Yields the responses."""
        async with aclosing(until(requests, self._stop)) as taken, tasks() as spawn:
            plan, network = await self._plan(call, taken)
            curve = Curve(plan, network.digest)
            plan.ClearField("checkpoint")
            evaluation = Evaluation(self._dispatcher, call, plan, network.rows, self._limits)
            checked = await evaluation.ask(RobustnessRequest(plan=plan))
            reader = spawn(evaluation.read(taken, spawn))
            spawn(evaluation.tell_the_time())
            images = 0
            with closing(evaluation.room) as room:
                while not isinstance(event := await evaluation.events.get(), End | Late):
                    if isinstance(event, Finished):
                        images += 1
                        room.leave(event.size)
                    if not plan.estimate_only:
                        yield self._told(call, event, curve)
                if isinstance(event, End):
                    await reader
            done = curve.done()
            done.is_partial = isinstance(event, Late)
            if plan.estimate_only:
                done.images_done += images
            done.estimated_cost.CopyFrom(_times(checked.estimated_cost, done.images_done))
            if not plan.estimate_only:
                done.receipt.CopyFrom(checked.receipt)
                done.receipt.cost.CopyFrom(curve.cost)
            yield pb.EvaluateRobustnessResponse(checkpoint=curve.checkpoint(), done=done)

    def _told(
        self, call: Call, event: "Finished | Tick", curve: Curve
    ) -> pb.EvaluateRobustnessResponse:
        """Counts what came of an image, and says so; or says how far it has come."""
        if isinstance(event, Tick):
            response = pb.EvaluateRobustnessResponse(progress=curve.progress())
        elif isinstance(found := event.found, Failure):
            if found.reason in OF_THE_SERVICE:
                raise found
            self._count(call, code_name(found.code), reason_name(found.reason))
            curve.fail()
            item = pb.RobustnessItem(id=event.id, error=found.status())
            response = pb.EvaluateRobustnessResponse(item=item)
        else:
            self._count(call, "OK", "")
            curve.add(found)
            item = pb.RobustnessItem(id=event.id, robustness=found.robustness)
            response = pb.EvaluateRobustnessResponse(item=item)
        response.checkpoint = curve.checkpoint()
        return response

    def _count(self, call: Call, code: str, reason: str) -> None:
        network = call.facts.network
        self._metrics.stream_requests.labels(call.rpc.name, network, code, reason).inc()

    async def _plan(
        self, call: Call, requests: AsyncIterator[pb.EvaluateRobustnessRequest]
    ) -> tuple[pb.RobustnessPlan, Network]:
        """The first message's, with the version of the network that all images are sent to."""
        first = await anext(requests, None)
        if first is None or not first.HasField("plan"):
            raise _misplaced("must be the plan in the first message")
        check(first)
        plan = with_defaults(first.plan)
        check_plan(plan)
        network = self._networks.resolve(plan.network, call.request_id)
        plan.network = f"{network.name}@{network.version}"
        call.facts.network, call.facts.methods = plan.network, methods_of(plan)
        return plan, network


class Evaluation:
    """One call's images on their way; `events` has what became of them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        call: Call,
        plan: pb.RobustnessPlan,
        rows: int,
        limits: StreamLimits,
    ) -> None:
        self._dispatcher = dispatcher
        self._call = call
        self._plan = plan
        # As many images as fill a micro-batch; with more, callers of small jobs would wait longer.
        self.room = Room(replace(limits, window=min(limits.window, max(rows, 2))))
        self.events: asyncio.Queue[Finished | Tick | Late | End] = asyncio.Queue()
        self._sent = 0

    async def read(
        self, requests: AsyncIterator[pb.EvaluateRobustnessRequest], spawn: Spawn
    ) -> None:
        """Sends every image on its way; the end, good or bad, comes after what came of them."""
        broken: Failure | None = None
        try:
            try:
                async for request in requests:
                    await self._send(request, spawn)
            except Failure as failure:
                broken = failure
            await self.room.wait_until_empty()
            if broken:
                raise broken
        finally:
            self.events.put_nowait(End())

    async def _send(self, request: pb.EvaluateRobustnessRequest, spawn: Spawn) -> None:
        if request.HasField("plan"):
            raise _misplaced("must be images in every message but the first")
        check(request)
        for index, image in enumerate(request.batch.images):
            await self.room.wait()
            size = image.ByteSize()
            self.room.enter(size)
            spawn(self._measure(index, image, size))

    async def _measure(self, index: int, image: pb.LabeledImage, size: int) -> None:
        found: RobustnessResponse | Failure = RobustnessResponse()
        if not self._plan.estimate_only:
            asked = RobustnessRequest(plan=self._plan, image=image, index=index)
            try:
                found = await self.ask(asked)
            except Exception as error:
                found = failure_of(error, self._call)
        self.events.put_nowait(Finished(image.id, found, size))

    async def ask(self, request: RobustnessRequest) -> RobustnessResponse:
        """What a worker answers; raises Failure."""
        self._sent += 1
        deadline = self._call.deadline or time.monotonic() + LONG_SECONDS
        call = self._call.part(f"{self._call.request_id}.{self._sent}", deadline)
        body = request.SerializeToString()
        asked = Question(call, RPC, self._plan.network, request, body)
        with call.trace:
            response = await self._dispatcher.run_patiently(asked, PATIENCE_SECONDS)
        return RobustnessResponse.FromString(response)

    async def tell_the_time(self) -> None:
        """Ticks, and says when the end of a call that allows partial answers comes near."""
        soon = float("inf")
        if self._plan.allow_partial and self._call.deadline:
            left = self._call.deadline - time.monotonic()
            soon = self._call.deadline - margin(left)
        while (left := soon - time.monotonic()) > 0:
            await asyncio.sleep(min(PROGRESS_SECONDS, left))
            # A caller who does not read shall not find all that was told meanwhile.
            if self.events.empty():
                self.events.put_nowait(Tick())
        self.events.put_nowait(Late())


def _misplaced(words: str) -> Failure:
    return invalid([Violation(field="part", description=words)])


def _times(cost: Cost, images: int) -> Cost:
    return Cost(
        forward_passes=cost.forward_passes * images, backward_passes=cost.backward_passes * images
    )
