"""One Triton server: its connection, its models, and how they are."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import (  # pyright: ignore[reportMissingTypeStubs]
    service_pb2,
    service_pb2_grpc,
)

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import CANARY, DESCRIBE, POOLS, model_name, network_of
from convlens.internal.v1.canary_pb2 import CanaryRequest
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.dispatch import CLOCK
from convlens.server.metrics import TritonMetrics
from convlens.server.triton.lists import Lists
from convlens.server.triton.texts import (
    Fault,
    TritonFault,
    fault_of_error,
    fault_of_status,
    fault_of_text,
)
from convlens.v1.network_pb2 import Network

log = structlog.get_logger()
T = TypeVar("T")
# Triton's own messages, which come without types.
triton: Any = service_pb2

# What Triton calls the last answer to a request.
FINAL = "triton_final_response"
CANARY_SECONDS = 10.0
# After so long without an answer a pool is asked to compute something, to see that it can.
IDLE_SECONDS = 5.0
HEAL_SECONDS = 120.0


@dataclass(eq=False)
class Asked:
    """A job that was sent. It is lost if a worker of its model died before the last answer."""

    call: Any
    lost: bool = False
    answered: bool = False

    def lose(self) -> None:
        """Ends it: a dead worker answers nobody, and Triton does not tell those who wait."""
        self.lost = True
        self.call.cancel()


@dataclass
class Model:
    """A model as this server knows it."""

    healthy: bool = True
    last_reply: float = field(default_factory=time.monotonic)
    loaded: float = 0.0
    healing: "asyncio.Task[None] | None" = None
    asked: set[Asked] = field(default_factory=set[Asked])


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
        # Held by whoever asks or changes what is loaded: an answer from before a change is not
        # to overwrite what it brought.
        self.turn = asyncio.Lock()
        self._metrics = metrics
        self._headers = tuple(headers)
        self.outstanding = 0
        self.last_taken = 0.0
        self.reachable = False
        self.trouble = ""
        self.networks: dict[str, Network] = {}
        self._models: dict[str, Model] = {}
        # Held until they end, since gRPC cancels what nobody holds.
        self._ending: set[Any] = set()
        options = _options(host if credentials else "")
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def can_answer(self, model: str) -> bool:
        """Whether the model answers here, as far as is known."""
        known = self._models.get(model)
        return self.reachable and known is not None and known.healthy

    async def close(self) -> None:
        """Ends the connection and whatever heals."""
        for model in self._models.values():
            if model.healing:
                model.healing.cancel()
        await self._channel.close()

    async def stream(self, name: str, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job in a model; closing the generator cancels it. Raises TritonFault."""
        model, started = self._models.setdefault(name, Model()), time.monotonic()
        asked = Asked(self._stub.ModelStreamInfer(timeout=max(0, job.remaining_us) / 1e6 + 1))
        model.asked.add(asked)
        self.outstanding += 1
        self.last_taken = started
        try:
            async for answer in _answers(asked, name, job):
                self._note_reply(name, job)
                asked.answered = answer.parameters[FINAL].bool_param
                yield Reply.FromString(answer.raw_output_contents[0])
        except TritonFault as fault:
            self._note_fault(name, fault, started)
            raise
        finally:
            self.outstanding -= 1
            model.asked.discard(asked)
            self._end(asked)

    def _end(self, asked: Asked) -> None:
        """Cancels a job, unless it is answered: then its stream ends by itself in a moment."""
        if not asked.answered:
            asked.call.cancel()
        elif not asked.call.done():
            self._ending.add(asked.call)
            asked.call.add_done_callback(self._ending.discard)

    async def _first(self, name: str, job: Job) -> Reply:
        async with aclosing(self.stream(name, job)) as replies:
            async for reply in replies:
                return reply
        raise TritonFault(Fault.UNKNOWN, "no answer")

    async def _manage(self, method: Any, request: Any) -> Any:
        """A call that lists, loads or unloads models, which Triton may be told to restrict."""
        return await _awaited(method(request, metadata=self._headers))

    def _note_reply(self, name: str, job: Job) -> None:
        model = self._models.setdefault(name, Model())
        model.healthy = self.reachable = True
        if job.method != DESCRIBE:
            model.last_reply = time.monotonic()

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
        elif fault.fault is Fault.DEAD_WORKER and not model.healing and started > model.loaded:
            model.healthy = False
            model.healing = asyncio.create_task(self._heal(name, model))
            for asked in model.asked:
                asked.lose()

    async def _heal(self, name: str, model: Model) -> None:
        started = time.monotonic()
        log.warning("healing", model=name, triton=self.address)
        try:
            async with asyncio.timeout(HEAL_SECONDS):
                await self._load(name, _next_generation(await self._config(name)))
            model.healthy = True
            model.loaded = model.last_reply = time.monotonic()
            seconds = round(time.monotonic() - started, 2)
            log.warning("healed", model=name, triton=self.address, seconds=seconds)
            self._metrics.healings.labels(name, "healed").inc()
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

    async def _config(self, name: str) -> dict[str, Any]:
        """The configuration of a model, as loading takes it."""
        answer = await _awaited(self._stub.ModelConfig(triton.ModelConfigRequest(name=name)))
        return MessageToDict(answer.config, preserving_proto_field_name=True)

    async def _load(self, name: str, config: dict[str, Any] | None) -> None:
        request = triton.RepositoryModelLoadRequest(model_name=name)
        if config is not None:
            request.parameters["config"].string_param = json.dumps(config)
        await self._manage(self._stub.RepositoryModelLoad, request)

    async def load(self, name: str, version: str, traffic_weight: float | None) -> None:
        """Loads both pools of a network, or loads them again with another weight."""
        loaded = await self.index(ready=True)
        for pool in POOLS:
            model = model_name(name, version, pool)
            if model not in loaded:
                await self._load(model, None)
            if traffic_weight is not None:
                config = _next_generation(await self._config(model))
                entry = json.loads(config["parameters"]["network"]["string_value"])
                entry["traffic_weight"] = traffic_weight
                config["parameters"]["network"]["string_value"] = json.dumps(entry)
                await self._load(model, config)
        await self.refresh()

    async def unload(self, name: str, version: str) -> None:
        """Unloads both pools of a network; Triton answers what it has taken first."""
        self.networks.pop(f"{name}@{version}", None)
        for pool in POOLS:
            request = triton.RepositoryModelUnloadRequest(
                model_name=model_name(name, version, pool)
            )
            await self._manage(self._stub.RepositoryModelUnload, request)

    async def index(self, *, ready: bool) -> list[str]:
        """The models of the repository, or those that are loaded."""
        request = triton.RepositoryIndexRequest(ready=ready)
        answer = await self._manage(self._stub.RepositoryIndex, request)
        return [model.name for model in answer.models]

    async def lists(self) -> Lists:
        """What this server's repository serves from the start, and what may be loaded."""
        ours = [model for model in await self.index(ready=True) if network_of(model)]
        return Lists.of((await self._config(ours[0])).get("parameters", {})) if ours else Lists()

    async def refresh(self) -> None:
        """Learns what is loaded, describes it, and sees that idle pools compute."""
        async with asyncio.timeout(CANARY_SECONDS):
            loaded = await self.index(ready=True)
        self.reachable = True
        networks: dict[str, Network] = {}
        for model in loaded:
            if not (known := network_of(model)):
                continue
            name, version, pool = known
            await self._canary(model)
            if pool == "inference":
                known_facts = self.networks.get(f"{name}@{version}")
                facts = await self._describe(model) or known_facts
                if facts:
                    networks[f"{name}@{version}"] = facts
        self.networks, self.trouble = networks, ""
        for gone in set(self._models) - set(loaded):
            # While it heals Triton may not list it, and what is known of it is needed after.
            if not self._models[gone].healing:
                del self._models[gone]

    async def _describe(self, model: str) -> Network | None:
        if self._models[model].healing:
            return None
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                reply = await self._first(model, _job(DESCRIBE, b""))
        except (TritonFault, TimeoutError):
            return None
        return None if reply.HasField("error") else Network.FromString(reply.response)

    async def _canary(self, name: str) -> None:
        """Sees whether a pool lives that gave no answer for a while.

        An idle one computes a pass; one with jobs only answers, since it computes anyway.
        """
        model = self._models.setdefault(name, Model())
        idle = not model.asked
        if model.healing or (idle and time.monotonic() - model.last_reply < IDLE_SECONDS):
            return
        body = CanaryRequest(passes=1 if idle else 0).SerializeToString()
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                reply = await self._first(name, _job(CANARY, body))
        except (TritonFault, TimeoutError):
            return
        known = Failure.from_status(reply.error) if reply.HasField("error") else None
        # A full queue and a missed deadline are answers of a pool that lives.
        if known and known.reason is ErrorReason.ERROR_REASON_INTERNAL:
            log.error("canary failed", model=name, triton=self.address)
            model.healthy = False


async def _answers(asked: Asked, model: str, job: Job) -> AsyncGenerator[Any, None]:
    """Triton's answers to a job; raises TritonFault."""
    try:
        await asked.call.write(_request(model, job))
        await asked.call.done_writing()
        async for message in asked.call:
            if message.error_message:
                raise fault_of_text(message.error_message)
            yield message.infer_response
    except grpc.aio.AioRpcError as error:
        raise fault_of_error(error) from error
    except asyncio.InvalidStateError as error:
        # The call had ended before anything could be written.
        raise fault_of_status(await asked.call.code(), await asked.call.details()) from error
    except asyncio.CancelledError as error:
        if asked.lost:
            raise TritonFault(Fault.DEAD_WORKER, "the worker died") from error
        raise


def _next_generation(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration changed in what nobody reads, so that Triton loads it again."""
    generation = config["parameters"]["generation"]
    generation["string_value"] = str(int(generation["string_value"]) + 1)
    return config


async def _awaited(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_error(error) from error


def _request(model: str, job: Job) -> Any:
    """The job's bytes as a tensor, without tritonclient's copies of them."""
    body = job.SerializeToString()
    request = triton.ModelInferRequest(model_name=model, id=job.request_id)
    request.inputs.add(name="request", datatype="UINT8", shape=[len(body)])
    request.outputs.add(name="response")
    request.raw_input_contents.append(body)
    return request


def _job(method: str, request: bytes) -> Job:
    return Job(
        request_id=f"{method.lower()}-{time.monotonic_ns()}",
        method=method,
        request=request,
        remaining_us=round(CANARY_SECONDS * 1e6),
        sent_us=time.monotonic_ns() // 1000,
        clock=CLOCK,
    )


def _options(host: str) -> Sequence[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A silent connection is found by pings, long before the deadlines of long jobs.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if host:
        options.append(("grpc.ssl_target_name_override", host))
    return options
