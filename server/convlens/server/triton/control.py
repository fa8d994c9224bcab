"""What Triton is asked and told of its models: which are loaded, and with what configuration."""

import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2  # pyright: ignore[reportMissingTypeStubs]

from convlens.contract.pools import Pool, model_name
from convlens.server.triton.texts import fault_of_error

# Triton's own messages, which come without types.
triton: Any = service_pb2
T = TypeVar("T")

# The configuration of a model, as loading takes it.
Config: TypeAlias = dict[str, Any]
# The models of a network, the inference pool's first where it is there: their configurations, None
# where not loaded.
Before: TypeAlias = Mapping[str, Config | None]

# The parameters of a model: its entry of networks.yaml; the entry before its weight was changed;
# and a number that nobody reads, so that Triton loads again what is otherwise the same.
ENTRY = "network"
CONFIGURED = "configured"
GENERATION = "generation"


class Control:
    """Lists, loads and unloads the models of one Triton. Everything raises TritonFault."""

    def __init__(self, stub: Any, headers: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._headers = headers

    async def loaded(self) -> list[str]:
        """The models that are loaded."""
        request = triton.RepositoryIndexRequest(ready=True)
        answer = await self._restricted(self._stub.RepositoryIndex, request)
        return [model.name for model in answer.models]

    async def config(self, model: str) -> Config:
        """The configuration with which a model is loaded."""
        answer = await awaited(self._stub.ModelConfig(triton.ModelConfigRequest(name=model)))
        return MessageToDict(answer.config, preserving_proto_field_name=True)

    async def load(self, model: str, config: Config | None = None) -> None:
        """Loads a model with a configuration, or with the one in the repository.

        Without one Triton does nothing where the model is loaded, with whatever configuration.
        """
        request = triton.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            request.parameters["config"].string_param = json.dumps(config)
        await self._restricted(self._stub.RepositoryModelLoad, request)

    async def unload(self, model: str) -> None:
        """Unloads a model, after a load of it that is under way; it answers what it has taken."""
        request = triton.RepositoryModelUnloadRequest(model_name=model)
        await self._restricted(self._stub.RepositoryModelUnload, request)

    async def load_again(self, model: str) -> None:
        """Starts a model anew, with the same configuration."""
        await self.load(model, next_generation(await self.config(model)))

    async def before(self, name: str, version: str, pools: Sequence[Pool]) -> Before:
        """The models of a network's pools as they are now."""
        loaded = await self.loaded()
        models = [model_name(name, version, pool) for pool in pools]
        return {each: await self.config(each) if each in loaded else None for each in models}

    async def load_network(self, before: Before, traffic_weight: float | None) -> None:
        """Loads the models of a network, with a weight other than the configuration's or with that.

        Nobody serves the network before its last model is loaded. The weight is told by the first,
        which has it by then: so no request goes by another one.
        """
        [first, *others] = before
        if not before[first]:
            # Triton does not say what the repository has for a model that is not loaded.
            await self.load(first)
        config = await self.config(first)
        if weigh(config, traffic_weight):
            await self.load(first, next_generation(config))
        for other in others:
            if not before[other]:
                await self.load(other)

    async def restore(self, before: Before) -> None:
        """Makes the models of a network what they were."""
        for model, config in before.items():
            if config is None:
                await self.unload(model)
                continue
            now = await self.config(model)
            if now["parameters"][ENTRY] != config["parameters"][ENTRY]:
                generation = now["parameters"][GENERATION]
                parameters = {**config["parameters"], GENERATION: generation}
                await self.load(model, next_generation({**config, "parameters": parameters}))

    async def _restricted(self, method: Any, request: Any) -> Any:
        """A call that Triton may be told to take only with a key."""
        return await awaited(method(request, metadata=self._headers))


def weigh(config: Config, traffic_weight: float | None) -> bool:
    """Puts a weight into a configuration, or None for the first one; says whether it is another."""
    parameters = config["parameters"]
    was = json.loads(parameters[ENTRY]["string_value"])
    first = parameters.setdefault(CONFIGURED, dict(parameters[ENTRY]))
    entry = json.loads(first["string_value"])
    if traffic_weight is not None:
        entry["traffic_weight"] = traffic_weight
    parameters[ENTRY]["string_value"] = json.dumps(entry)
    return entry != was


def next_generation(config: Config) -> Config:
    """The same configuration changed in what nobody reads, so that Triton loads it again."""
    generation = config["parameters"][GENERATION]["string_value"]
    parameters = {**config["parameters"], GENERATION: {"string_value": str(int(generation) + 1)}}
    return {**config, "parameters": parameters}


async def awaited(call: Awaitable[T]) -> T:
    """What a call of gRPC answers; raises TritonFault."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_error(error) from error
