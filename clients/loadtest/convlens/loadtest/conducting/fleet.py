"""The load processes of a run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType

from convlens.loadtest.generator.orders import Defect, Message, Order, Orders, Ready

# Seconds until a process has imported what it needs and knows its orders.
START_SECONDS = 60.0
END_SECONDS = 5.0


class ProcessEnded(Exception):
    """A load process ended by itself."""


class Fleet:
    """Starts a process for each of the orders, and ends them with the block."""

    def __init__(self, orders: Sequence[Orders]) -> None:
        self._orders = orders
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection] = []

    def __enter__(self) -> "Fleet":
        try:
            for orders in self._orders:
                self._start(orders)
            ready = set[int]()
            until = time.monotonic() + START_SECONDS
            while len(ready) < len(self._orders):
                if time.monotonic() > until:
                    raise ProcessEnded(f"A load process was not ready in {START_SECONDS:.0f} s.")
                ready |= {each.process for each in self.heard(1.0) if isinstance(each, Ready)}
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def tell(self, order: Order) -> None:
        """Tells all processes."""
        for connection in self._connections:
            try:
                connection.send(order)
            except OSError:
                raise self._lost(connection) from None

    def heard(self, seconds: float) -> Iterator[Message]:
        """What they have to say, as long as one of them begins within `seconds`."""
        for ready in wait(self._connections, max(0.0, seconds)):
            assert isinstance(ready, Connection)
            try:
                message: Message = ready.recv()
            except (EOFError, OSError):
                raise self._lost(ready) from None
            if isinstance(message, Defect):
                raise ProcessEnded(f"A load process failed:\n{message.words}")
            yield message

    def last_words(self) -> Iterator[Message]:
        """What is left to hear after they were told to stop, until each has hung up."""
        waiting = list(self._connections)
        until = time.monotonic() + END_SECONDS
        while waiting and (left := until - time.monotonic()) > 0:
            for ready in wait(waiting, left):
                assert isinstance(ready, Connection)
                try:
                    yield ready.recv()
                except (EOFError, OSError):
                    waiting.remove(ready)

    def _lost(self, connection: Connection) -> ProcessEnded:
        return ProcessEnded(
            f"Load process {self._connections.index(connection) + 1} of "
            f"{len(self._connections)} ended by itself; was there memory enough?"
        )

    def _start(self, orders: Orders) -> None:
        ours, theirs = socket.socketpair()
        # Out of reach of Ctrl-C, which is for the conductor to make sense of.
        process = subprocess.Popen(
            [sys.executable, "-m", "convlens.loadtest.generator.process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        theirs.close()
        self._processes.append(process)
        connection: Connection = Connection(ours.detach())
        self._connections.append(connection)
        connection.send(orders)

    def _end(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            # Without the other end of its connection it ends by itself.
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                process.wait()
