"""The parent of several server processes: one port, one address of metrics, one end."""

import asyncio
import os
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Generator
from contextlib import contextmanager, suppress

import structlog

from convlens.server import __version__
from convlens.server.ending import Ending
from convlens.server.engine import EngineError
from convlens.server.gateway import bind
from convlens.server.metrics.port import MetricsPort
from convlens.server.metrics.process_metrics import ProcessMetrics
from convlens.server.metrics.registry import Registry
from convlens.server.metrics.shared import VARIABLE, SharedMetrics
from convlens.server.processes.child import SERVING
from convlens.server.processes.reserve import reserve
from convlens.server.settings import Settings, parse_address
from convlens.server.triton.home import Folder, clear_homes_of_the_dead
from convlens.server.triton.leash import on_leash

log = structlog.get_logger(__name__)

CHILD = (sys.executable, "-m", "convlens.server.processes.child")
# Before a process that ended is started again: the longer, the more often that was in vain.
PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# Who served for so long ended for another reason than who ended before.
STEADY_SECONDS = 60.0


class Supervisor:
    """Starts processes, starts them again, and ends them; `settings` are those of each.

    Start it in a thread that lives as long as it is wanted: the processes die with the thread.
    """

    def __init__(self, settings: Settings, folder: Folder) -> None:
        metrics = folder.path / "metrics"
        metrics.mkdir()
        self._settings = pickle.dumps(settings)
        self._environment = {**folder.environment(), VARIABLE: str(metrics)}
        self._over = asyncio.Event()
        self._live: dict[int, Process] = {}
        self._kept: list[asyncio.Task[int]] = []
        # By number, why a process does not serve.
        self._troubles: dict[int, str] = {}
        self._shared = SharedMetrics(metrics, self._pids)
        self.registry = Registry()
        self.registry.register(self._shared)
        self._metrics = ProcessMetrics(self.registry, lambda: len(self._live))

    @property
    def trouble(self) -> str:
        """Why a process does not serve, in the words of the first of those; empty where all do."""
        return next(iter(self._troubles.values()), "")

    def _pids(self) -> list[int]:
        return [process.pid for process in self._live.copy().values()]

    async def start(self, number: int) -> bool:
        """Has one process run until the end; returns whether it serves, as soon as that is known.

        One that ends before it served for the first time is not started again: `trouble` says why.
        """
        serving = asyncio.Event()
        kept = asyncio.create_task(self._keep(number, serving))
        self._kept.append(kept)
        served = asyncio.create_task(serving.wait())
        await asyncio.wait({kept, served}, return_when=asyncio.FIRST_COMPLETED)
        served.cancel()
        return serving.is_set()

    async def _keep(self, number: int, serving: asyncio.Event) -> int:
        """Runs a process again and again; returns the exit code of the last one."""
        tries = 0
        while True:
            since = time.monotonic()
            code = await self._run(number, serving)
            if self._over.is_set() or not serving.is_set():
                return code
            tries = 0 if time.monotonic() - since > STEADY_SECONDS else tries
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            tries += 1
            self._metrics.restarts.inc()
            told = {"process": number, "code": code, "again_in": pause}
            log.error("server process ended", error=self._troubles.get(number, ""), **told)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)
                return 0

    async def _run(self, number: int, serving: asyncio.Event) -> int:
        try:
            process = await self._started(number)
        except OSError as error:
            # No memory or no number for it now; there may be later.
            self._troubles[number] = f"cannot start a process: {error.strerror}"
            return 1
        assert process.stdin and process.stdout
        self._live[number] = process
        if self._over.is_set():
            process.terminate()
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(self._settings)
            await process.stdin.drain()
        process.stdin.close()
        said = await process.stdout.readline()
        if said == SERVING:
            serving.set()
            self._troubles.pop(number, None)
        else:
            said += await process.stdout.read()
            words = said.decode(errors="replace").strip()
            self._troubles[number] = words or "a process of the server ended before it served"
        code = await process.wait()
        del self._live[number]
        try:
            await asyncio.to_thread(self._shared.forget, process.pid)
        except OSError as error:
            # The process is started again all the same.
            log.error("metrics of a process not merged", process=number, error=error.strerror)
        return code

    async def _started(self, number: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *on_leash([*CHILD, str(number)]),
            env=self._environment,
            stdin=PIPE,
            stdout=PIPE,
            # Ctrl-C in a terminal is for the parent, which ends the others in good order.
            start_new_session=True,
        )

    async def end(self) -> bool:
        """Has every process drain, and waits for it; returns whether all ended in good order."""
        self._over.set()
        for process in self._live.values():
            with suppress(ProcessLookupError):
                process.terminate()
        # Who had not begun to serve has nothing to drain.
        return all(code in (0, -signal.SIGTERM) for code in await asyncio.gather(*self._kept))


async def supervise(settings: Settings, ending: Ending) -> int:
    """Serves until SIGTERM or SIGINT, then has all processes drain; returns the exit code.

    Raises EngineError where an address is taken, or a process cannot serve.
    """
    ending.listen()
    clear_homes_of_the_dead()
    address, held = reserve(parse_address(settings.listen))
    folder = Folder()
    try:
        own = {"listen": str(address), "metrics_listen": "off"}
        supervisor = Supervisor(settings.model_copy(update=own), folder)
        with _shown(settings.metrics_listen, supervisor.registry) as metrics:
            return await _serve(supervisor, settings, ending, (str(address), metrics))
    finally:
        held.close()
        folder.clear()


@contextmanager
def _shown(listen: str, registry: Registry) -> Generator[str]:
    """Shows metrics while the block runs, at the address that it gets."""
    if listen == "off":
        yield listen
        return
    wanted = parse_address(listen)
    port = bind(wanted, lambda: MetricsPort(registry, wanted))
    try:
        yield str(port.address)
    finally:
        port.close()


async def _serve(
    supervisor: Supervisor, settings: Settings, ending: Ending, addresses: tuple[str, str]
) -> int:
    ended = asyncio.create_task(ending.wait())
    numbers = range(1, settings.processes + 1)
    starting = asyncio.gather(*(supervisor.start(number) for number in numbers))
    await asyncio.wait({ended, starting}, return_when=asyncio.FIRST_COMPLETED)
    failed = starting.done() and not all(starting.result())
    trouble = supervisor.trouble
    if starting.done() and not failed:
        _tell(settings, *addresses)
        await ended
        log.info("draining", seconds=settings.drain_timeout)
    ended.cancel()
    well = await supervisor.end()
    await starting
    if failed:
        raise EngineError(trouble)
    log.info("stopped")
    return 0 if well else 1


def _tell(settings: Settings, address: str, metrics: str) -> None:
    log.info(
        "serving",
        address=address,
        metrics=metrics,
        engine=settings.engine,
        version=__version__,
        pid=os.getpid(),
        processes=settings.processes,
    )
