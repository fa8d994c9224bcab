"""A Triton of one's own: its repository is written first, by the workers' command."""

import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from convlens.server.engine import EngineError
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.local import LocalTriton, check_platform

# What a model says of its entry of networks.yaml, among Triton's own words.
MISTAKE = re.compile(r"ConfigError: (.+)")
COMMAND = (sys.executable, "-m", "convlens.workers.main", "repository")


class LocalAddresses(Addresses):
    """The address of the Triton that this process starts, and ends again."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._triton: LocalTriton | None = None

    async def start(self) -> None:
        """Writes the repository and starts Triton with it."""
        check_platform()
        self._folder = tempfile.TemporaryDirectory(prefix="convlens-")
        repository = Path(self._folder.name)
        served = await self._write(repository)
        self._triton = LocalTriton(repository, served)
        try:
            await self._triton.start()
        except EngineError as error:
            raise EngineError(_said_by_models(str(error))) from None

    async def _write(self, folder: Path) -> list[str]:
        """Writes the models, and returns those that are to be loaded."""
        config = ["--config", str(self._config)] if self._config else []
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--out", str(folder), *config),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode != 0:
            raise EngineError(_mistakes(error.decode()))
        lines = (line.partition(" ") for line in out.decode().splitlines())
        return [name for word, _, name in lines if word == "served"]

    async def current(self) -> dict[str, str]:
        """Its address, once it has started."""
        return {self._triton.address: "localhost"} if self._triton else {}

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Those with which it was started."""
        return self._triton.headers if self._triton else ()

    async def stop(self) -> None:
        """Ends Triton and removes the repository."""
        if self._triton:
            await self._triton.stop()
        if self._folder:
            self._folder.cleanup()


def _mistakes(error: str) -> str:
    """The lines in which the command says what is wrong; all of them where it says nothing so."""
    prefix = "convlens-workers: "
    said = [line.removeprefix(prefix) for line in error.splitlines() if line.startswith(prefix)]
    return "\n".join(said) or f"the model repository cannot be written: {error.strip()}"


def _said_by_models(reasons: str) -> str:
    """Each mistake that a model found in its entry, once; all of the text where there is none."""
    return "\n".join(dict.fromkeys(MISTAKE.findall(reasons))) or reasons
