"""A Triton of a few lines: tests say what it has and how it answers, and see what it was asked."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import POOLS, network_of
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.engine import TritonEngine
from convlens.v1.network_pb2 import Network

messages: Any = service_pb2
grpc_stubs: Any = service_pb2_grpc


def broken() -> Reply:
    """What a worker answers that cannot compute any more."""
    failure = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="test")
    return Reply(error=failure.status())


class FakeTriton(grpc_stubs.GRPCInferenceServiceServicer):
    """Serves `networks` from the start and has `loadable` in its repository, with their weights.

    Of each network it has `pools` alone.
    """

    def __init__(
        self,
        networks: dict[str, float],
        loadable: dict[str, float],
        pools: Sequence[Any] = POOLS,
    ) -> None:
        self._weights = {**networks, **loadable}
        self.pools = pools
        self.lists = {"networks": [*networks], "loadable": [*loadable], "pools": [*pools]}
        self.loaded: dict[str, dict[str, Any]] = {}
        # What was asked, such as "load shapes@1-inference" or "Describe shapes@1-inference".
        self.asked: list[str] = []
        # Models that do not start, and what loads wait for.
        self.failing: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer: Callable[[str, Job], Reply | None] = lambda model, job: None
        self.restricted = False
        self.full = False
        # Seconds that a caller's job takes, and the jobs whose stream was cancelled meanwhile.
        self.slow = 0.0
        self.left: list[str] = []
        # Dead models, and the jobs that each leaves without an answer before Triton notices it.
        self.dead: dict[str, int] = {}
        self.address = ""
        for name in networks:
            for pool in pools:
                self.loaded[f"{name}-{pool}"] = self.file(f"{name}-{pool}")

    @asynccontextmanager
    async def serve(self, address: str = "127.0.0.1:0") -> AsyncGenerator["FakeTriton"]:
        server = grpc.aio.server()
        grpc_stubs.add_GRPCInferenceServiceServicer_to_server(self, server)
        port = server.add_insecure_port(address)
        self.address = f"{address.rpartition(':')[0]}:{port}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)

    def weight(self, model: str) -> float:
        return self._entry(model)["traffic_weight"]

    def _entry(self, model: str) -> dict[str, Any]:
        return json.loads(self.loaded[model]["parameters"]["network"]["string_value"])

    def file(self, model: str) -> dict[str, Any]:
        name, version, _ = network_of(model) or ("", "", "")
        entry = {"name": name, "traffic_weight": self._weights[f"{name}@{version}"]}
        parameters = {"network": json.dumps(entry), "lists": json.dumps(self.lists)}
        parameters["generation"] = "0"
        words = {key: {"string_value": value} for key, value in parameters.items()}
        return {"name": model, "parameters": words}

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        if self.restricted:
            text = "This protocol is restricted, expecting header 'triton-grpc-protocol-convlens'"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        answer = messages.RepositoryIndexResponse()
        for model in self.loaded:
            answer.models.add(name=model)
        return answer

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        if request.name not in self.loaded:
            text = f"Request for unknown model: '{request.name}' has no available versions"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return ParseDict({"config": self.loaded[request.name]}, messages.ModelConfigResponse())

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        model = request.model_name
        self.asked.append(f"load {model}")
        await self.gate.wait()
        if model in self.failing:
            why = "Internal: ValueError: no such layer\n\nAt:\n  /srv/model.py(3): initialize\n;\n"
            text = f"load failed for model '{model}': version 1 is at UNAVAILABLE state: {why}"
            await context.abort(grpc.StatusCode.INTERNAL, text)
        if not model.endswith(tuple(self.pools)):
            text = f"failed to load '{model}', failed to poll from model repository"
            await context.abort(grpc.StatusCode.INTERNAL, text)
        self.dead.pop(model, None)
        if config := request.parameters["config"].string_param:
            self.loaded[model] = json.loads(config)
        else:
            # As the real one: what is loaded stays, with whatever configuration.
            self.loaded.setdefault(model, self.file(model))
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self.asked.append(f"unload {request.model_name}")
        self.loaded.pop(request.model_name, None)
        return messages.RepositoryModelUnloadResponse()

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            model, job = request.model_name, Job.FromString(request.raw_input_contents[0])
            self.asked.append(f"{job.method} {model}")
            message = messages.ModelStreamInferResponse()
            if model in self.dead:
                self.dead[model] -= 1
                if self.dead[model] >= 0:
                    await asyncio.Event().wait()
                message.error_message = f"Stub process '{model}_0_0' is not healthy."
                yield message
                continue
            if model not in self.loaded:
                text = f"Request for unknown model: '{model}' has no available versions"
                message.error_message = text
            elif self.full and job.method not in ("Describe", "Canary"):
                message.error_message = (
                    "Failed to process the request(s) for model instance 'x', message: Failed to "
                    "increase the shared memory pool size for key 'y' to 268435456 bytes."
                )
            else:
                await self._think(job)
                reply = self.answer(model, job) or self._reply(model, job)
                response = message.infer_response
                response.parameters["triton_final_response"].bool_param = True
                response.raw_output_contents.append(reply.SerializeToString())
            yield message

    async def _think(self, job: Job) -> None:
        """Takes its time for a caller's job, and notes who did not wait."""
        if self.slow and job.method not in ("Describe", "Canary"):
            try:
                await asyncio.sleep(self.slow)
            except asyncio.CancelledError:
                self.left.append(job.request_id)
                raise

    def _reply(self, model: str, job: Job) -> Reply:
        if job.method != "Describe":
            return Reply(response=b"answered by " + model.encode())
        name, version, _ = network_of(model) or ("", "", "")
        network = Network(name=name, version=version, traffic_weight=self.weight(model))
        return Reply(response=network.SerializeToString())


class Told(Addresses):
    """The addresses that a test says."""

    def __init__(self, *tritons: FakeTriton) -> None:
        self.now = [triton.address for triton in tritons]

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return ()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def current(self) -> dict[str, str]:
        return {address: "triton" for address in self.now}


@asynccontextmanager
async def engine_of(addresses: Addresses) -> AsyncGenerator[TritonEngine]:
    """A started engine, with nothing in front of it."""
    engine = TritonEngine(addresses, None, TritonMetrics(Metrics()))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
