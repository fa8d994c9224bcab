"""When a process of the server ends."""

import asyncio
import os
import signal

from convlens.server.engine import EngineError
from convlens.server.triton.home import clear_own


class Ending:
    """When the server is to end: at a signal, or at an error that leaves nothing to serve."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._error: EngineError | None = None

    def listen(self) -> None:
        """Ends the process at SIGTERM, SIGINT, and SIGHUP unless `nohup` keeps that from it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.on_signal)

    def on_signal(self) -> None:
        """Ends in good order; at the second signal at once, though not without clearing up."""
        if self._wanted.is_set():
            clear_own()
            os._exit(1)
        self._wanted.set()

    def fail(self, error: EngineError) -> None:
        """Ends in good order, and with this error."""
        self._error = error
        self._wanted.set()

    async def wait(self) -> None:
        """Returns when the server is to end."""
        await self._wanted.wait()

    def check(self) -> None:
        """Raises the error, if one is the reason."""
        if self._error:
            raise self._error
