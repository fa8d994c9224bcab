"""A Triton of one's own: its repository is written first, by the workers' command."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from convlens.server.engine import EngineError
from convlens.server.triton import shm
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.home import Folder
from convlens.server.triton.leash import on_leash
from convlens.server.triton.local import LocalTriton, check_platform

log = structlog.get_logger(__name__)

# What a model says of its entry of networks.yaml, among Triton's own words.
MISTAKE = re.compile(r"ConfigError: (.+)")
COMMAND = (sys.executable, "-m", "convlens.workers.main", "repository")
# Starts in a row after which nobody believes in the next one, and the wait before each.
PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)
# Who ran for so long ended for another reason than who ended before.
STEADY_SECONDS = 60.0


def _nobody(error: EngineError) -> None:
    log.error("Triton is given up", error=str(error))


class LocalAddresses(Addresses):
    """The address of the Triton that this process starts, starts again, and ends.

    `message_bytes` is the size of the largest message; `give_up` is told when Triton ended and does
    not start any more.
    """

    def __init__(
        self,
        config: Path | None,
        message_bytes: int = 0,
        give_up: Callable[[EngineError], None] = _nobody,
    ) -> None:
        self._config = config
        self._message_bytes = message_bytes
        self._give_up = give_up
        self._folder: Folder | None = None
        self._triton: LocalTriton | None = None
        self._address = ""
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Writes the repository and starts Triton with it."""
        check_platform()
        self._folder = Folder()
        repository = self._folder.path / "models"
        served = await self._write(self._folder, repository)
        self._triton = LocalTriton(repository, served)
        try:
            await self._triton.start()
        except EngineError as error:
            raise EngineError(_said_by_models(str(error))) from None
        if warning := shm.shortage(self._message_bytes, len(served)):
            log.warning(warning)
        self._address = self._triton.address
        self._keeper = asyncio.create_task(self._keep(self._triton))

    async def _write(self, folder: Folder, repository: Path) -> list[str]:
        """Writes the models, and returns those that are to be loaded."""
        config = ["--config", str(self._config)] if self._config else []
        process = await asyncio.create_subprocess_exec(
            *on_leash([*COMMAND, "--out", str(repository), *config]),
            env=folder.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal is for the server, which ends the command itself.
            start_new_session=True,
        )
        try:
            out, error = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise EngineError(_mistakes(error.decode()))
        lines = (line.partition(" ") for line in out.decode().splitlines())
        return [name for word, _, name in lines if word == "served"]

    async def _keep(self, triton: LocalTriton) -> None:
        """Starts Triton again whenever it ends, until that does not help any more."""
        tries = 0
        try:
            while True:
                since = time.monotonic()
                code = await triton.ended()
                log.error("Triton ended though nobody stopped it", code=code)
                steady = time.monotonic() - since > STEADY_SECONDS
                tries = await self._again(triton, 0 if steady else tries, f"it ended with {code}")
        except EngineError as error:
            self._give_up(error)

    async def _again(self, triton: LocalTriton, tries: int, reason: str) -> int:
        """Starts it; returns the starts in a row by now; raises EngineError after too many."""
        began = time.monotonic()
        while tries < len(PAUSES):
            await asyncio.sleep(PAUSES[tries])
            tries += 1
            try:
                await triton.start()
            except (EngineError, OSError) as error:
                reason = str(error)
                log.error("Triton did not start again", tries=tries, error=reason)
                continue
            self._address = triton.address
            seconds = round(time.monotonic() - began, 1)
            log.warning("Triton started again", triton=self._address, seconds=seconds)
            return tries
        raise EngineError(f"Triton was started again {tries} times in a row, in vain: {reason}")

    async def current(self) -> dict[str, str]:
        """Its address, once it has started, and the last one while it starts again."""
        return {self._address: "localhost"} if self._address else {}

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Those with which it was started."""
        return self._triton.headers if self._triton else ()

    async def stop(self) -> None:
        """Ends Triton and removes the repository."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        try:
            if self._triton:
                await self._triton.stop()
        finally:
            if self._folder:
                await asyncio.to_thread(self._folder.clear)


def _mistakes(error: str) -> str:
    """The lines in which the command says what is wrong; all of them where it says nothing so."""
    prefix = "convlens-workers: "
    said = [line.removeprefix(prefix) for line in error.splitlines() if line.startswith(prefix)]
    return "\n".join(said) or f"the model repository cannot be written: {error.strip()}"


def _said_by_models(reasons: str) -> str:
    """Each mistake that a model found in its entry, once; all of the text where there is none."""
    return "\n".join(dict.fromkeys(MISTAKE.findall(reasons))) or reasons
