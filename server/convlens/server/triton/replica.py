"""One Triton server: its connection, its models, and how they are."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import grpc
import structlog
from tritonclient.grpc import service_pb2_grpc  # pyright: ignore[reportMissingTypeStubs]

from convlens.contract.pools import CANARY, DESCRIBE, POOLS, Pool, model_name, network_of
from convlens.internal.v1.canary_pb2 import CanaryRequest
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.metrics import TritonMetrics
from convlens.server.triton.control import Before, Config, Control
from convlens.server.triton.jobs import (
    Asked,
    Following,
    answers,
    begin,
    is_broken,
    next_of,
    options,
    own_job,
    wind_up,
)
from convlens.server.triton.lists import Lists, first_models
from convlens.server.triton.model import Model
from convlens.server.triton.texts import Fault, TritonFault
from convlens.v1.network_pb2 import Network

log = structlog.get_logger(__name__)

# What Triton calls the last answer to a request.
FINAL = "triton_final_response"
ANSWER_SECONDS = 10.0
# After so long without an answer a pool is asked to compute something, to see that it can.
IDLE_SECONDS = 5.0
HEAL_SECONDS = 120.0
# A worker that is broken once it is healed may have what healing does not mend: the pause until it
# is healed once more doubles, so many times at most.
DOUBLINGS = 6
# Weights of gigabytes may come from a slow disk.
LOAD_SECONDS = 300.0
UNDO_SECONDS = 10.0


class Replica:
    """A Triton server at one address."""

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None,
        host: str,
        headers: Sequence[tuple[str, str]],
        metrics: TritonMetrics,
    ) -> None:
        self.address = address
        self._metrics = metrics
        self.outstanding = 0
        self.last_taken = 0.0
        self.reachable = False
        self.trouble = ""
        self.networks: dict[str, Network] = {}
        # Of networks.yaml; None before a model told them.
        self.lists: Lists | None = None
        self._models: dict[str, Model] = {}
        # What each network told of itself, and the configuration with which it was loaded then.
        self._described: dict[str, tuple[str, Network]] = {}
        # The networks that this server changed, and when, in numbers of changes: what was asked
        # before a change is not to overwrite what it brought.
        self._changed: dict[str, int] = {}
        self._canaries: set[asyncio.Task[None]] = set()
        # Held until they end, since gRPC cancels what nobody holds.
        self._ending: set[Any] = set()
        self._winding: set[asyncio.Future[None]] = set()
        chosen = options(host if credentials else "")
        self._channel = (
            grpc.aio.secure_channel(address, credentials, chosen)
            if credentials
            else grpc.aio.insecure_channel(address, chosen)
        )
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._control = Control(self._stub, tuple(headers))
        metrics.watch_triton(address, lambda: self.outstanding, lambda: self.reachable)

    def can_answer(self, model: str) -> bool:
        """Whether the model answers here, as far as is known."""
        known = self._models.get(model)
        return self.reachable and known is not None and known.healthy

    @property
    def pools(self) -> Sequence[Pool]:
        """Those that its repository has; all, before a model told them."""
        return self.lists.pools if self.lists else POOLS

    async def close(self) -> None:
        """Ends the connection and whatever heals."""
        for model in self._models.values():
            if model.healing:
                model.healing.cancel()
        for canary in self._canaries:
            canary.cancel()
        self._metrics.forget_triton(self.address)
        await self._channel.close()
        await asyncio.gather(*self._winding, return_exceptions=True)

    async def stream(self, name: str, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job in a model; closing the generator cancels it. Raises TritonFault."""
        model, started = self._models.setdefault(name, Model()), time.monotonic()
        asked = Asked(begin(self._stub, job))
        model.asked.add(asked)
        self.outstanding += 1
        self.last_taken = started
        replies = answers(asked, name, job)
        following: Following | None = None
        try:
            # Read by a task of its own: gRPC cancels the call whose reader is cancelled.
            while answer := await asyncio.shield(following := next_of(replies)):
                asked.answered = answer.parameters[FINAL].bool_param
                reply = Reply.FromString(answer.raw_output_contents[0])
                self._note_reply(name, job, reply)
                yield reply
        except TritonFault as fault:
            self._note_fault(name, fault, started)
            raise
        finally:
            self.outstanding -= 1
            model.asked.discard(asked)
            self._end(asked, replies, following)

    def _end(
        self, asked: Asked, replies: AsyncGenerator[Any, None], following: "Following | None"
    ) -> None:
        """Lets go of a job: its stream ends by itself in a moment, or is cancelled."""
        if asked.answered:
            if not asked.call.done():
                self._ending.add(asked.call)
                asked.call.add_done_callback(self._ending.discard)
        elif following is None or following.done():
            asked.call.cancel()
        else:
            winding = asyncio.ensure_future(wind_up(asked, replies, following))
            self._winding.add(winding)
            winding.add_done_callback(self._winding.discard)

    async def _first(self, name: str, job: Job) -> Reply:
        async with asyncio.timeout(ANSWER_SECONDS), aclosing(self.stream(name, job)) as replies:
            async for reply in replies:
                return reply
        raise TritonFault(Fault.UNKNOWN, "no answer")

    def _note_reply(self, name: str, job: Job, reply: Reply) -> None:
        """What a reply says of a model: that it lives, unless it says that it is broken.

        A job may be to blame for that itself, so the next canary looks at it.
        """
        model = self._models.setdefault(name, Model())
        self.reachable = True
        if reply.HasField("vitals"):
            self._metrics.note_vitals(name, self.address, reply.vitals)
        model.failing = is_broken(reply)
        if not model.failing and job.method != DESCRIBE:
            model.healthy = True
            model.last_reply, model.in_vain = time.monotonic(), 0

    def _note_fault(self, name: str, fault: TritonFault, started: float) -> None:
        """What a fault says about a model and its server; `started` is when its call began.

        A dead worker is told by every call that met it, also by those that end after it was
        replaced: these say nothing of the new one.
        """
        model = self._models.setdefault(name, Model())
        if fault.fault is Fault.DEAD_WORKER:
            self._metrics.dead_workers.labels(name).inc()
        if fault.fault is Fault.OUT_OF_REACH:
            self.reachable = False
        elif fault.fault is Fault.NOT_READY:
            model.healthy = False
            if fault.unloaded:
                self._forget(name)
        elif fault.fault is Fault.DEAD_WORKER and started > model.loaded:
            self._start_healing(name, model)

    def _forget(self, name: str) -> None:
        """Serves the network of a model no more."""
        if known := network_of(name):
            reference = f"{known[0]}@{known[1]}"
            self._note_change(reference)
            self.networks.pop(reference, None)

    def _note_change(self, reference: str) -> None:
        self._changed[reference] = max(self._changed.values(), default=0) + 1

    def _start_healing(self, name: str, model: Model) -> None:
        """Has a model loaded again, unless that is under way; what it was asked is lost."""
        if model.healing:
            return
        model.healthy = False
        model.healing = asyncio.create_task(self._heal(name, model))
        for asked in model.asked:
            asked.lose()

    async def _heal(self, name: str, model: Model) -> None:
        started = time.monotonic()
        log.warning("healing", model=name, triton=self.address)
        try:
            async with asyncio.timeout(HEAL_SECONDS):
                await self._control.load_again(name)
            model.loaded = model.last_reply = time.monotonic()
            # It computed when it warmed up; who was healed for what it answers is asked first.
            model.healthy = not model.failing or not is_broken(await self._compute(name, 1))
            seconds = round(time.monotonic() - started, 2)
            log.warning("healed", model=name, triton=self.address, seconds=seconds)
            self._metrics.healings.labels(name, "healed" if model.healthy else "failed").inc()
        except Exception as error:
            # The next call that meets the dead worker tries again.
            log.error("healing failed", model=name, triton=self.address, error=str(error))
            self._metrics.healings.labels(name, "failed").inc()
        finally:
            model.healing = None

    async def healed(self, name: str) -> None:
        """Waits while a model is loaded again."""
        healing = self._models.setdefault(name, Model()).healing
        if healing:
            # Not the task itself: what cancels the healing is not to cancel who waits for it.
            await asyncio.wait({healing})

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Before:
        """Loads a network, or loads it again where its weight changes; returns what was before.

        Where that fails all is as it was. Raises TritonFault or TimeoutError.
        """
        before = await self._control.before(name, version, self.pools)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._control.load_network(before, traffic_weight)
        except TimeoutError:
            await self.restore(before)
            raise TimeoutError(f"Triton did not load it within {LOAD_SECONDS:.0f} s") from None
        except BaseException:
            await self.restore(before)
            raise
        self._note_change(f"{name}@{version}")
        with suppress(TritonFault, TimeoutError):
            await self.look()
        return before

    def knows(self, reference: str) -> bool:
        """Whether a network told what it is since it was last loaded."""
        return reference in self.networks and reference in self._described

    async def restore(self, before: Before) -> None:
        """Makes the models of a network what they were, as far as Triton does so in time."""
        for model, config in before.items():
            if config is None:
                self._forget(model)
        try:
            # An unload waits for the load before it, in Triton, also when nobody waits for it here.
            async with asyncio.timeout(UNDO_SECONDS):
                await self._control.restore(before)
                await self.look()
        except (TritonFault, TimeoutError) as error:
            log.warning("load not undone yet", models=[*before], error=str(error))

    async def unload(self, name: str, version: str) -> None:
        """Unloads the pools of a network; Triton answers what it has taken first."""
        try:
            self._forget(model_name(name, version, POOLS[0]))
            for pool in self.pools:
                await self._control.unload(model_name(name, version, pool))
        finally:
            # Meanwhile somebody may have looked.
            self._forget(model_name(name, version, POOLS[0]))

    async def refresh(self) -> None:
        """Learns what is loaded, describes it, and sees that idle pools compute."""
        try:
            loaded = await self.look()
        except (TritonFault, TimeoutError):
            # It may come back with others of the same name.
            self._described.clear()
            raise
        self.trouble = ""
        for model in loaded:
            # Not awaited: a dead worker may leave one without an answer, and it is the next one,
            # with the next look, that Triton tells of it.
            canary = asyncio.create_task(self._canary(model))
            self._canaries.add(canary)
            canary.add_done_callback(self._canaries.discard)

    async def look(self) -> list[str]:
        """Learns which of our models are loaded, and of each network what was loaded anew."""
        begun = max(self._changed.values(), default=0)
        async with asyncio.timeout(ANSWER_SECONDS):
            loaded = [model for model in await self._control.loaded() if network_of(model)]
            configs = await self._configs(loaded)
        self.reachable = True
        networks = {
            reference: facts
            for reference, config in configs.items()
            if (facts := await self._describe(reference, config))
        }
        for reference, changed in self._changed.items():
            if changed > begun:
                networks.pop(reference, None)
                if facts := self.networks.get(reference):
                    networks[reference] = facts
        self.networks = networks
        self._clear(loaded)
        if configs:
            self.lists = Lists.of(next(iter(configs.values())).get("parameters", {}))
        return loaded

    async def _configs(self, loaded: Sequence[str]) -> dict[str, Config]:
        """The configurations of the networks of which all is loaded, each its first pool's.

        What is loaded in part is on its way here, or away.
        """
        found: dict[str, Config] = {}
        for reference, model in first_models(loaded).items():
            try:
                config = await self._control.config(model)
            except TritonFault as fault:
                # It was unloaded in the meantime.
                if fault.unloaded:
                    continue
                raise
            pools = Lists.of(config.get("parameters", {})).pools
            models = [f"{reference}-{pool}" for pool in pools]
            # The first one tells the weight, so no other stands in for it.
            if model == models[0] and all(
                each in loaded or self._is_healing(each) for each in models
            ):
                found[reference] = config
        return found

    def _is_healing(self, name: str) -> bool:
        return name in self._models and self._models[name].healing is not None

    def _clear(self, loaded: Sequence[str]) -> None:
        for gone in set(self._models) - set(loaded):
            # While it heals Triton may not list it, and what is known of it is needed after.
            if not self._is_healing(gone) and not self._models[gone].asked:
                del self._models[gone]
                self._metrics.forget_model(gone, self.address)
        for gone in set(self._described) - set(self.networks):
            del self._described[gone]

    async def _describe(self, reference: str, config: Config) -> Network | None:
        """The facts of a network, asked once for each load of it; the last ones where it fails."""
        known, text = self.networks.get(reference), json.dumps(config, sort_keys=True)
        model = str(config["name"])
        if (told := self._described.get(reference)) and told[0] == text:
            return told[1]
        if self._is_healing(model):
            return known
        with suppress(TritonFault, TimeoutError):
            reply = await self._first(model, own_job(DESCRIBE, b"", ANSWER_SECONDS))
            if not reply.HasField("error"):
                facts = Network.FromString(reply.response)
                self._described[reference] = text, facts
                return facts
        self._described.pop(reference, None)
        return known

    async def _canary(self, name: str) -> None:
        """Sees whether a pool lives that gave no answer for a while, and heals it if it is broken.

        An idle one computes a pass; one with jobs only answers, since it computes anyway.
        """
        model = self._models.setdefault(name, Model())
        idle = not model.asked
        silent = time.monotonic() - model.last_reply
        pause = IDLE_SECONDS * 2 ** min(model.in_vain, DOUBLINGS)
        well = model.healthy and not model.failing
        if model.healing or (well and idle and silent < IDLE_SECONDS):
            return
        if model.in_vain and time.monotonic() < model.loaded + pause:
            return
        try:
            reply = await self._compute(name, 1 if idle or model.failing else 0)
        except (TritonFault, TimeoutError):
            self._metrics.canaries.labels(name, "unanswered").inc()
            return
        failed = is_broken(reply)
        self._metrics.canaries.labels(name, "failed" if failed else "ok").inc()
        if failed:
            log.error("canary failed", model=name, triton=self.address)
            model.in_vain += 1
            self._start_healing(name, model)

    async def _compute(self, name: str, passes: int) -> Reply:
        body = CanaryRequest(passes=passes).SerializeToString()
        return await self._first(name, own_job(CANARY, body, ANSWER_SECONDS))
