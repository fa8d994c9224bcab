"""One of several server processes: `python -m convlens.server.processes.child 2`.

It gets its settings from its parent, pickled on standard input since some are secret, and says on
standard output that it serves, or why it cannot. Its metrics are in the folder that the environment
names.
"""

import asyncio
import os
import pickle
import signal
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from convlens.server.ending import Ending
from convlens.server.engine import EngineError
from convlens.server.gateway import Gateway
from convlens.server.logs import configure_logs
from convlens.server.main import build, serve
from convlens.server.metrics import Metrics
from convlens.server.metrics.shared import VARIABLE, write_gauges
from convlens.server.settings import Settings

SERVING = b"serving\n"
GAUGE_SECONDS = 0.5

log = structlog.get_logger(__name__)


def main() -> int:
    """Serves until SIGTERM. Exit codes: 0, 1 (cannot serve)."""
    settings: Settings = pickle.load(sys.stdin.buffer)
    configure_logs(settings.log_format, settings.log_level)
    structlog.contextvars.bind_contextvars(process=int(sys.argv[1]))
    try:
        asyncio.run(_serve(settings))
    except EngineError as error:
        print(error)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    ending, metrics = Ending(), Metrics()
    gateway = build(settings, ending, metrics)
    telling = asyncio.create_task(_tell_gauges(metrics))
    try:
        await serve(gateway, settings, ending, _tell)
    finally:
        telling.cancel()


def _tell(gateway: Gateway, settings: Settings) -> None:
    """Says to the parent that this process serves."""
    del gateway, settings
    log.info("process serving", pid=os.getpid())
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), SERVING)
    # Nobody reads on.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


async def _tell_gauges(metrics: Metrics) -> None:
    folder = Path(os.environ[VARIABLE])
    while True:
        try:
            write_gauges(folder, metrics.registry.gauges)
        except OSError as error:
            log.error("gauges not written", error=str(error))
        await asyncio.sleep(GAUGE_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
