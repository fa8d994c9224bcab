"""The load process: `python -m convlens.loadtest.generator.process FD`.

FD is its end of a pair of sockets. It takes orders from there and reports there; when the other
end is gone, it ends.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

# gRPC's core writes to stderr what reports say better.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from convlens.loadtest.generator.loops import Loops
from convlens.loadtest.generator.orders import (
    Defect,
    Order,
    Orders,
    Ready,
    Stage,
    Stop,
)
from convlens.loadtest.generator.recording import Recorder

# Seconds between two reports.
EVERY = 0.25


def main() -> None:
    """Runs until the conductor says stop, or is gone."""
    # Ctrl-C is the conductor's, who stops this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, OSError):
        asyncio.run(_run(connection))
    # What there is to say is said, and gRPC's own ending may take its time.
    os._exit(0)


async def _run(connection: Connection) -> None:
    orders = await asyncio.to_thread(connection.recv)
    assert isinstance(orders, Orders)
    recorder = Recorder(orders.number)
    loops = Loops(orders, recorder)
    # Requests are many and live to the end: nothing among them is garbage.
    gc.freeze()
    connection.send(Ready(orders.number))
    told: asyncio.Queue[Order | None] = asyncio.Queue()

    def over(stage: asyncio.Task[None]) -> None:
        stages.discard(stage)
        if not stage.cancelled() and (error := stage.exception()):
            words = "".join(traceback.format_exception(error))
            connection.send(Defect(orders.number, words))

    _listen(connection, told)
    watch = asyncio.create_task(recorder.watch_loop())
    reports = asyncio.create_task(_tell(connection, recorder))
    stages: set[asyncio.Task[None]] = set()
    while isinstance(order := await told.get(), Stage):
        stage = asyncio.create_task(loops.run(order))
        stages.add(stage)
        stage.add_done_callback(over)
    for task in (watch, reports, *stages):
        task.cancel()
    await asyncio.gather(watch, reports, *stages, return_exceptions=True)
    if isinstance(order, Stop):
        connection.send(recorder.report())


async def _tell(connection: Connection, recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(EVERY)
        connection.send(recorder.report())


def _listen(connection: Connection, told: "asyncio.Queue[Order | None]") -> None:
    """Hears orders in a thread; None is the end of whoever gives them."""
    loop = asyncio.get_running_loop()

    def hear() -> None:
        while True:
            try:
                order = connection.recv()
            except (EOFError, OSError):
                order = None
            loop.call_soon_threadsafe(told.put_nowait, order)
            if not isinstance(order, Stage):
                return

    threading.Thread(target=hear, daemon=True, name="orders").start()


if __name__ == "__main__":
    main()
