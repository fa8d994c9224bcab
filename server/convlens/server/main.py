"""The command `convlens-server`."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

import structlog

from convlens.server import __version__
from convlens.server.access import profile
from convlens.server.access.new_token import make_token
from convlens.server.embedded import EmbeddedEngine
from convlens.server.ending import Ending
from convlens.server.engine import Engine, EngineError
from convlens.server.gateway import Gateway
from convlens.server.logs import configure_logs, end_logs
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.output import written
from convlens.server.settings import Settings, SettingsError, load_settings
from convlens.server.triton.bundle import check_platform

log = structlog.get_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Exit codes: 0, 1 (cannot serve), 2 (wrong settings)."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["token"]:
        return make_token(argv[1:])
    try:
        settings, print_config = load_settings(argv)
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"convlens-server: {line}", file=sys.stderr)
        return 2
    if print_config:
        return 0 if written(settings.dump()) else 1
    configure_logs(settings.log_format, settings.log_level)
    ending = Ending()
    try:
        if settings.processes > 1:
            from convlens.server.processes.supervisor import supervise

            return asyncio.run(supervise(settings, ending))
        asyncio.run(serve(build(settings, ending), settings, ending))
    except EngineError as error:
        for line in str(error).splitlines():
            print(f"convlens-server: {line}", file=sys.stderr)
        return 1
    return 0


def build(
    settings: Settings, ending: Ending | None = None, metrics: Metrics | None = None
) -> Gateway:
    """The server that the settings ask for, not yet started."""
    metrics = metrics or Metrics()
    return Gateway(settings, _engine(settings, metrics, ending or Ending()), metrics)


def _engine(settings: Settings, metrics: Metrics, ending: Ending) -> Engine:
    if settings.engine == "embedded":
        return EmbeddedEngine(settings.networks, settings.device, metrics)
    if settings.engine == "triton-local":
        check_platform()
    # tritonclient comes with the extras alone.
    try:
        from convlens.server.triton.addresses import NamedAddresses
        from convlens.server.triton.engine import TritonEngine
        from convlens.server.triton.repository import LocalAddresses
        from convlens.server.triton.tls import credentials
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the engine {settings.engine} needs the package {error.name}: "
            f'pip install "convlens-server[{settings.engine}]"'
        ) from None
    counted = TritonMetrics(metrics)
    if settings.engine == "triton-local":
        local = LocalAddresses(settings.networks, settings.max_message_bytes, ending.fail)
        return TritonEngine(local, None, counted)
    headers = [("triton-grpc-protocol-convlens", secret)] if (secret := settings.triton_key) else []
    addresses = NamedAddresses(settings.triton_url, headers)
    trusted = credentials(settings.triton_ca) if settings.triton_ca else None
    return TritonEngine(addresses, trusted, counted)


async def serve(
    gateway: Gateway,
    settings: Settings,
    ending: Ending,
    told: Callable[[Gateway, Settings], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; raises EngineError where it cannot serve.

    `told` is who says that it serves; left out, the log.
    """
    ending.listen()
    await _start(gateway, ending)
    try:
        for danger in profile.dangers(settings):
            log.warning("open to others", why=danger)
        (told or _tell)(gateway, settings)
        await ending.wait()
        log.info("draining", seconds=settings.drain_timeout)
    finally:
        await gateway.__aexit__(None, None, None)
    log.info("stopped")
    ending.check()


def _tell(gateway: Gateway, settings: Settings) -> None:
    log.info(
        "serving",
        address=str(gateway.address),
        metrics=str(gateway.metrics_address or "off"),
        health=str(gateway.health_address or "off"),
        tls="on" if settings.tls_certificate else "off",
        tokens="on" if settings.tokens else "off",
        engine=settings.engine,
        version=__version__,
        pid=os.getpid(),
    )


async def _start(gateway: Gateway, ending: Ending) -> None:
    """Starts the server, and ends the process where that is wanted before it serves."""
    start, end = asyncio.create_task(gateway.__aenter__()), asyncio.create_task(ending.wait())
    await asyncio.wait({start, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if not start.done():
        log.info("stopping during the start")
        start.cancel()
        await asyncio.wait({start})
    if start.cancelled():
        log.info("stopped")
        # All is cleared, and a thread that still loads a network shall not hold up the end.
        end_logs()
        os._exit(0)
    await start
