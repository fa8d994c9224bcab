"""The command `convlens-server`."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import structlog

from convlens.server import __version__
from convlens.server.embedded import EmbeddedEngine
from convlens.server.engine import Engine, EngineError
from convlens.server.gateway import Gateway
from convlens.server.logs import configure_logs
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Exit codes: 0, 1 (cannot serve), 2 (wrong settings)."""
    try:
        settings, print_config = load_settings(sys.argv[1:] if argv is None else argv)
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"convlens-server: {line}", file=sys.stderr)
        return 2
    if print_config:
        print(settings.dump(), end="")
        return 0
    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(serve(build(settings), settings))
    except EngineError as error:
        for line in str(error).splitlines():
            print(f"convlens-server: {line}", file=sys.stderr)
        return 1
    return 0


def build(settings: Settings) -> Gateway:
    """The server that the settings ask for, not yet started."""
    metrics = Metrics()
    return Gateway(settings, _engine(settings, metrics), metrics)


def _engine(settings: Settings, metrics: Metrics) -> Engine:
    if settings.engine == "embedded":
        return EmbeddedEngine(settings.networks, settings.device, metrics)
    # tritonclient comes with the extra "triton" alone.
    try:
        from convlens.server.triton.addresses import NamedAddresses
        from convlens.server.triton.engine import TritonEngine
        from convlens.server.triton.repository import LocalAddresses
        from convlens.server.triton.tls import credentials
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the engine {settings.engine} needs the package {error.name}: "
            'pip install "convlens-server[triton]"'
        ) from None
    counted = TritonMetrics(metrics)
    if settings.engine == "triton-local":
        return TritonEngine(LocalAddresses(settings.networks), None, counted)
    headers = [("triton-grpc-protocol-convlens", secret)] if (secret := settings.triton_key) else []
    addresses = NamedAddresses(settings.triton_url, headers)
    trusted = credentials(settings.triton_ca) if settings.triton_ca else None
    return TritonEngine(addresses, trusted, counted)


async def serve(gateway: Gateway, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, stop)
    async with gateway:
        log.info(
            "serving",
            address=str(gateway.address),
            metrics=str(gateway.metrics_address or "off"),
            engine=settings.engine,
            version=__version__,
            pid=os.getpid(),
        )
        await stop.wait()
        log.info("draining", seconds=settings.drain_timeout)
    log.info("stopped")


def _stop_or_exit(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(1)
    stop.set()
