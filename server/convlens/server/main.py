"""The command `convlens-server`."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import structlog

from convlens.server import __version__
from convlens.server.embedded import EmbeddedEngine
from convlens.server.engine import EngineError
from convlens.server.gateway import Gateway
from convlens.server.logs import configure_logs
from convlens.server.metrics import Metrics
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
        asyncio.run(serve(settings))
    except EngineError as error:
        print(f"convlens-server: {error}", file=sys.stderr)
        return 1
    return 0


def build(settings: Settings) -> Gateway:
    """The server that the settings ask for, not yet started."""
    metrics = Metrics()
    engine = EmbeddedEngine(settings.networks, settings.device, settings.queue_limit, metrics)
    return Gateway(settings, engine, metrics)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, stop)
    gateway = build(settings)
    async with gateway:
        log.info(
            "serving",
            address=str(gateway.address),
            metrics=str(gateway.metrics_address or "off"),
            networks=settings.networks,
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
