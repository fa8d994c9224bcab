"""The server put together: engine, services, health, reflection, metrics, and a graceful end."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection

from convlens.contract import Failure
from convlens.contract.pools import POOL_OF_SERVICE, POOLS
from convlens.server.access.access import Access
from convlens.server.access.probes import ProbePort
from convlens.server.admission import Admission, limits_of
from convlens.server.cache import Cache
from convlens.server.dispatch import Dispatcher
from convlens.server.engine import Engine, EngineError
from convlens.server.evaluation import Evaluator
from convlens.server.health import LIVENESS, READINESS, STARTUP, Health
from convlens.server.metrics import Metrics, MetricsPort
from convlens.server.networks import Networks
from convlens.server.rpc import Implementations, Onion, Streaming
from convlens.server.settings import Address, Settings, parse_address
from convlens.server.streams import Shared, Stream, StreamLimits
from convlens.server.tracing import open_tracer
from convlens.v1.classification_pb2 import ClassifyResponse, ClassifyStreamResponse
from convlens.v1.feature_pb2 import ExtractFeaturesResponse, ExtractFeaturesStreamResponse

log = structlog.get_logger(__name__)

FEATURES = "/convlens.v1.FeatureService"
CLASSIFICATION = "/convlens.v1.ClassificationService"
EXPLANATION = "/convlens.v1.ExplanationService"
ADVERSARIAL = "/convlens.v1.AdversarialService"
SYNTHESIS = "/convlens.v1.SynthesisService"
NETWORKS = "/convlens.v1.NetworkService"
HEALTH_SECONDS = 0.25
LINGER_SECONDS = 0.5
FLUSH_SECONDS = 2.0
# The SDK's clients ping every 30 s while a call is silent (its _transport.py); others may a little
# more often.
LEAST_PING_MS = 10_000
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 30_000, 10_000
T = TypeVar("T")


class Gateway:
    """One server process. It serves inside its `async with` block.

    Entering raises EngineError where the networks cannot be loaded or an address is taken.
    """

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._health = Health()
        self.access = Access(settings)
        self._tracer = open_tracer(settings.traces, settings.traces_ratio)
        self._onion = Onion(metrics, settings.default_timeout, self.access, self._tracer)
        self._services: list[str] = []
        self._metrics_port: MetricsPort | None = None
        self._probe_port: ProbePort | None = None
        self.address = parse_address(settings.listen)

    @property
    def metrics_address(self) -> Address | None:
        """Where the metrics are shown; None where they are off."""
        return self._metrics_port.address if self._metrics_port else None

    @property
    def health_address(self) -> Address | None:
        """Where probes are answered without TLS; None where that is off."""
        return self._probe_port.address if self._probe_port else None

    async def __aenter__(self) -> "Gateway":
        self._server = grpc.aio.server(options=_options(self._settings))
        try:
            # First, since it takes no time to find that an address is taken, and engines take long.
            self._open_ports()
            await self._engine.start()
        except BaseException:
            await self._close_ports()
            raise
        try:
            self._onion.implementations = self._implementations()
            self._add_services()
            await self._server.start()
            if self._probe_port:
                await self._probe_port.start()
            self._watch = asyncio.create_task(self._watch_health())
            self._follow = asyncio.create_task(self.access.follow())
        except BaseException:
            await self._close_ports()
            await self._engine.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drains: says so, refuses new work, lets accepted work end, then closes what is behind."""
        self._watch.cancel()
        for name in ("", READINESS, *self._services):
            self._health.set(name, False)
        await asyncio.sleep(self._settings.drain_delay)
        if not await self._onion.drain(self._settings.drain_timeout):
            log.warning("calls cut off", seconds=self._settings.drain_timeout)
        # While gRPC stops it cancels new calls without a reason: refuse them with one first.
        await asyncio.sleep(LINGER_SECONDS)
        # The last answers may still be on their way to the network when the calls have ended.
        await self._server.stop(FLUSH_SECONDS)
        self._follow.cancel()
        await self._engine.stop()
        await self._close_beside()

    def _implementations(self) -> Implementations:
        settings = self._settings
        networks = Networks(self._engine, settings.default_network, settings.loading)
        try:
            networks.resolve("", "")
        except Failure as failure:
            raise EngineError(f"default_network: {failure}") from None
        dispatcher = self._dispatcher(networks)
        limits = StreamLimits(
            settings.stream_window,
            2 * settings.max_message_bytes,
            settings.default_timeout,
            Shared(settings.of_one_process(settings.max_bytes)),
        )

        def stream(path: str, response: type[Message], answer: type[Message]) -> Streaming:
            stop = self._onion.stopping
            return Stream(path, response, answer, dispatcher, self._metrics, limits, stop).run

        evaluator = Evaluator(dispatcher, networks, self._metrics, limits, self._onion.stopping)
        explain, attack = f"{EXPLANATION}/Explain", f"{ADVERSARIAL}/Attack"
        classify, extract = f"{CLASSIFICATION}/Classify", f"{FEATURES}/ExtractFeatures"
        return Implementations(
            unary={
                f"{NETWORKS}/ListNetworks": networks.list,
                f"{NETWORKS}/GetNetwork": networks.get,
                f"{NETWORKS}/LoadNetwork": networks.load,
                f"{NETWORKS}/UnloadNetwork": networks.unload,
                f"{NETWORKS}/ListPretrained": dispatcher.by_default,
                classify: dispatcher.unary(classify),
                extract: dispatcher.unary(extract),
                explain: dispatcher.unary(explain),
                attack: dispatcher.unary(attack),
            },
            replying={
                path: dispatcher.streamed(path)
                for path in (f"{explain}Stream", f"{attack}Stream", f"{SYNTHESIS}/Synthesize")
            },
            streaming={
                f"{classify}Stream": stream(classify, ClassifyStreamResponse, ClassifyResponse),
                f"{extract}Stream": stream(
                    extract, ExtractFeaturesStreamResponse, ExtractFeaturesResponse
                ),
                f"{ADVERSARIAL}/EvaluateRobustness": evaluator.run,
            },
        )

    def _dispatcher(self, networks: Networks) -> Dispatcher:
        settings, metrics = self._settings, self._metrics
        admission = Admission(limits_of(settings))
        for pool in POOLS:
            metrics.watch_cost(pool, partial(admission.cost, pool))
            metrics.ready.watch(partial(self._engine.can_answer, pool), pool)
        cache = Cache(settings.of_one_process(settings.cache_bytes), metrics.count_lookup)
        metrics.cache_bytes.watch(lambda: cache.size)
        for file in self.access.files:
            metrics.stale.watch(partial(getattr, file, "is_stale"), file.name)
        for setting in self.access.expiries:
            metrics.expiry.watch(partial(self.access.expiry, setting), setting)
        return Dispatcher(
            self._engine, networks, admission, cache, metrics, settings.max_message_bytes
        )

    def _open_ports(self) -> None:
        port = bind(self.address, lambda: self.access.open_port(self._server, str(self.address)))
        self.address = Address(host=self.address.host, port=port)
        if self._settings.metrics_listen != "off":
            wanted = parse_address(self._settings.metrics_listen)
            self._metrics_port = bind(wanted, lambda: MetricsPort(self._metrics.registry, wanted))
        if self._settings.health_listen != "off":
            probed = parse_address(self._settings.health_listen)
            shared = self._settings.processes > 1
            self._probe_port = bind(probed, lambda: ProbePort(self._health, probed, shared))

    async def _close_ports(self) -> None:
        # gRPC lets go of the port of a server only if that was started.
        await self._server.start()
        await self._server.stop(None)
        await self._close_beside()

    async def _close_beside(self) -> None:
        if self._probe_port:
            await self._probe_port.stop()
        if self._metrics_port:
            self._metrics_port.close()
        await self._tracer.close()

    def _add_services(self) -> None:
        self._server.add_generic_rpc_handlers((self._onion,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._services = sorted(self._onion.implementations.services())
        if self._settings.reflection:
            names = (*self._services, HEALTH, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def _watch_health(self) -> None:
        """Tells the health service which services can answer; "" stands for all that are built.

        Where one pool is away the server is not to lose the callers of the other.
        """
        told: dict[str, bool] = {}
        while True:
            able = {service: self._can_answer(service) for service in self._services}
            able[""] = all(able.values())
            able[READINESS] = any(self._engine.can_answer(pool) for pool in POOLS)
            able[STARTUP] = able[READINESS] or told.get(STARTUP, False)
            able[LIVENESS] = True
            for service, well in able.items():
                if told.get(service) != well:
                    self._health.set(service, well)
            told = able
            await asyncio.sleep(HEALTH_SECONDS)

    def _can_answer(self, service: str) -> bool:
        pool = POOL_OF_SERVICE.get(service)
        return pool is None or self._engine.can_answer(pool)


def bind(address: Address, open_port: Callable[[], T]) -> T:
    """What opens a port of this address gives; raises EngineError where that is not to be had."""
    try:
        return open_port()
    except (RuntimeError, OSError) as error:
        raise EngineError(
            f"cannot listen on {address}: it is taken or not an address of this machine; "
            "choose another one with --listen, --metrics-listen or --health-listen"
        ) from error


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port by mistake would each get half of the callers.
        ("grpc.so_reuseport", int(settings.processes > 1)),
        # Faster clients are cut off by a GOAWAY. What gRPC writes of as min_recv_ping_interval…
        # has this name.
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        # A caller who is gone without a word is found after as long.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        *_ageing(settings),
    ]


def _ageing(settings: Settings) -> list[tuple[str, int]]:
    if not settings.max_connection_age:
        return []
    options = [("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000))]
    if settings.max_connection_age_grace:
        grace = round(settings.max_connection_age_grace * 1000)
        options.append(("grpc.max_connection_age_grace_ms", grace))
    return options
