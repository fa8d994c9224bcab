"""One Triton server: its connection, its models, and how they are."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import (  # pyright: ignore[reportMissingTypeStubs]
    service_pb2,
    service_pb2_grpc,
)

from convlens.contract.pools import CANARY, DESCRIBE, model_name, network_of
from convlens.internal.v1.canary_pb2 import CanaryRequest
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.dispatch import CLOCK
from convlens.server.metrics import TritonMetrics
from convlens.server.triton.lists import Lists
from convlens.server.triton.texts import Fault, TritonFault, fault_of_error, fault_of_text
from convlens.v1.network_pb2 import Network

log = structlog.get_logger()
T = TypeVar("T")
# Triton's own messages, which come without types.
triton: Any = service_pb2

# Unary calls carry no timeout of gRPC: cancelling one can crash Triton before this version.
SAFE_TO_CANCEL = (2, 59)
CANARY_SECONDS = 10.0
IDLE_SECONDS = 5.0
HEAL_SECONDS = 120.0


@dataclass
class Model:
    """A model as this server knows it."""

    healthy: bool = True
    last_reply: float = field(default_factory=time.monotonic)
    loaded: float = 0.0
    healing: "asyncio.Task[None] | None" = None


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
        self._abandoned: set[asyncio.Task[Any]] = set()
        options = _options(host if credentials else "")
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._cancellable = False

    @property
    def abandoned(self) -> int:
        """Calls whose callers left, and which run on because cancelling could crash Triton."""
        return len(self._abandoned)

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

    async def infer(self, model: str, job: Job) -> Reply:
        """Runs a job in a unary model; raises TritonFault."""
        request, started = _request(model, job), time.monotonic()
        self._take()
        try:
            answer = await self._unary(self._stub.ModelInfer, request)
        except TritonFault as fault:
            self._note_fault(model, fault, started)
            raise
        finally:
            self.outstanding -= 1
        self._note_reply(model)
        return _reply(answer)

    async def stream(self, model: str, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job in a decoupled model; closing the generator cancels it."""
        started = time.monotonic()
        call = self._stub.ModelStreamInfer(timeout=job.remaining_us / 1e6 + 1)
        self._take()
        try:
            await call.write(_request(model, job))
            await call.done_writing()
            async for message in call:
                if message.error_message:
                    raise fault_of_text(message.error_message)
                self._note_reply(model)
                yield _reply(message.infer_response)
        except grpc.aio.AioRpcError as error:
            fault = fault_of_error(error)
            self._note_fault(model, fault, started)
            raise fault from error
        except TritonFault as fault:
            self._note_fault(model, fault, started)
            raise
        finally:
            self.outstanding -= 1
            call.cancel()

    def _take(self) -> None:
        self.outstanding += 1
        self.last_taken = time.monotonic()

    async def _manage(self, method: Any, request: Any) -> Any:
        """A call that lists, loads or unloads models, which Triton may be told to restrict."""
        return await _awaited(method(request, metadata=self._headers))

    async def _unary(self, method: Any, request: Any) -> Any:
        call = asyncio.ensure_future(_awaited(method(request)))
        try:
            return await (call if self._cancellable else asyncio.shield(call))
        except asyncio.CancelledError:
            if not call.done():
                self._abandoned.add(call)
                call.add_done_callback(self._forget)
            raise

    def _forget(self, call: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(call)
        if not call.cancelled():
            call.exception()

    def _note_reply(self, name: str) -> None:
        model = self._models.setdefault(name, Model())
        model.healthy, model.last_reply, self.reachable = True, time.monotonic(), True

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

    async def _heal(self, name: str, model: Model) -> None:
        started = time.monotonic()
        log.warning("healing", model=name, triton=self.address)
        try:
            async with asyncio.timeout(HEAL_SECONDS):
                config = await self._config(name)
                generation = config["parameters"]["generation"]["string_value"]
                config["parameters"]["generation"]["string_value"] = str(int(generation) + 1)
                await self._load(name, config)
            model.healthy = True
            model.loaded = model.last_reply = time.monotonic()
            seconds = round(time.monotonic() - started, 2)
            log.warning("healed", model=name, triton=self.address, seconds=seconds)
            self._metrics.healings.labels(name, "healed").inc()
        except (TritonFault, TimeoutError) as error:
            log.error("healing failed", model=name, triton=self.address, error=str(error))
            self._metrics.healings.labels(name, "failed").inc()
        finally:
            model.healing = None

    async def healed(self, name: str) -> None:
        """Waits while a model is loaded again."""
        healing = self._models.setdefault(name, Model()).healing
        if healing:
            await asyncio.shield(healing)

    async def _config(self, name: str) -> dict[str, Any]:
        """The configuration of a model, as loading takes it."""
        answer = await self._unary(self._stub.ModelConfig, triton.ModelConfigRequest(name=name))
        return MessageToDict(answer.config, preserving_proto_field_name=True)

    async def _load(self, name: str, config: dict[str, Any] | None) -> None:
        request = triton.RepositoryModelLoadRequest(model_name=name)
        if config is not None:
            request.parameters["config"].string_param = json.dumps(config)
        await self._manage(self._stub.RepositoryModelLoad, request)

    async def load(self, name: str, version: str, traffic_weight: float | None) -> None:
        """Loads both pools of a network, or loads them again with another weight."""
        for pool in ("inference", "analysis"):
            model = model_name(name, version, pool)
            await self._load(model, None)
            if traffic_weight is not None:
                config = await self._config(model)
                entry = json.loads(config["parameters"]["network"]["string_value"])
                entry["traffic_weight"] = traffic_weight
                config["parameters"]["network"]["string_value"] = json.dumps(entry)
                await self._load(model, config)
        await self.refresh()

    async def unload(self, name: str, version: str) -> None:
        """Unloads both pools of a network; Triton answers what it has taken first."""
        self.networks.pop(f"{name}@{version}", None)
        for pool in ("inference", "analysis"):
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
        """Learns what is loaded, and describes it; that is a canary for the inference pools too."""
        async with asyncio.timeout(CANARY_SECONDS):
            await self._check_version()
            loaded = await self.index(ready=True)
        networks: dict[str, Network] = {}
        for model in loaded:
            known = network_of(model)
            if known and known[2] == "inference":
                name, version, _ = known
                facts = await self._describe(model) or self.networks.get(f"{name}@{version}")
                if facts:
                    networks[f"{name}@{version}"] = facts
            elif known:
                await self._canary(model)
        self.networks, self.trouble = networks, ""
        for gone in set(self._models) - set(loaded):
            del self._models[gone]

    async def _check_version(self) -> None:
        answer = await self._unary(self._stub.ServerMetadata, triton.ServerMetadataRequest())
        major, minor, *_ = (int(part) for part in answer.version.split("."))
        self._cancellable = (major, minor) >= SAFE_TO_CANCEL
        self.reachable = True

    async def _describe(self, model: str) -> Network | None:
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                reply = await self.infer(model, _job(DESCRIBE, b""))
        except (TritonFault, TimeoutError):
            return None
        return None if reply.HasField("error") else Network.FromString(reply.response)

    async def _canary(self, model: str) -> None:
        """Sees whether an analysis pool computes that had nothing to do for a while."""
        known = self._models.setdefault(model, Model())
        if known.healing or time.monotonic() - known.last_reply < IDLE_SECONDS:
            return
        body = CanaryRequest(passes=1).SerializeToString()
        try:
            async for _ in self.stream(model, _job(CANARY, body)):
                pass
        except TritonFault:
            return


async def _awaited(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_error(error) from error


def _request(model: str, job: Job) -> Any:
    """The job's bytes as a tensor, without tritonclient's copies of them."""
    body = job.SerializeToString()
    request = triton.ModelInferRequest(model_name=model, id=job.request_id)
    request.inputs.add(name="request", datatype="UINT8", shape=[1, len(body)])
    request.outputs.add(name="response")
    request.parameters["timeout"].int64_param = max(1, job.remaining_us)
    request.raw_input_contents.append(body)
    return request


def _reply(answer: Any) -> Reply:
    return Reply.FromString(answer.raw_output_contents[0])


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
        # A silent connection is found by pings, since unary calls have no deadline of gRPC's.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if host:
        options.append(("grpc.ssl_target_name_override", host))
    return options
