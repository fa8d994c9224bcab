"""triton-local: a Triton that ends by itself is started again, and nothing of the old one stays."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from structlog.testing import capture_logs

from convlens.server.engine import EngineError
from convlens.server.triton import repository, shm
from convlens.server.triton.home import Folder, clear_homes_of_the_dead
from convlens.server.triton.local import LocalTriton
from convlens.server.triton.repository import LocalAddresses
from tests.server.test_triton_local import PARENT, alive, gone, home_of, repository_of, wait_until

WRITER = """
import asyncio, sys
from convlens.server.triton import repository, shm

async def main():
    addresses = repository.LocalAddresses(None)
    repository.COMMAND = (sys.executable, "-c", "import time; time.sleep(600)")
    starting = asyncio.create_task(addresses.start())
    await asyncio.sleep(0.5)
    print(addresses._folder.path, flush=True)
    await starting

asyncio.run(main())
"""


class Bare(LocalAddresses):
    """Writes a model that starts at once, in place of networks."""

    async def _write(self, folder: Folder, repository: Path) -> list[str]:
        repository_of(repository, one=PARENT)
        return ["one"]


def test_an_end_that_nobody_asked_for_is_noticed_and_cleared(tmp_path: Path) -> None:
    triton = LocalTriton(repository_of(tmp_path / "models", one=PARENT))
    asyncio.run(triton.start())
    home, pid = home_of(triton), triton.pid
    assert len(alive(home)) == 3
    # Triton alone, as when memory runs out: its stub and what that started live on.
    os.kill(pid, signal.SIGKILL)
    assert asyncio.run(triton.ended()) == -signal.SIGKILL
    assert (alive(home), home.exists(), triton.pid) == ([], False, 0)
    assert not psutil.pid_exists(pid)


async def test_it_is_started_again_until_that_does_not_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repository, "PAUSES", (0.0, 0.1))
    given_up = asyncio.get_running_loop().create_future()
    addresses = Bare(None, give_up=given_up.set_result)
    await addresses.start()
    assert addresses._triton and addresses._folder
    folder, before = addresses._folder.path, await addresses.current()
    with capture_logs() as log:
        for times in (1, 2):
            os.kill(addresses._triton.pid, signal.SIGKILL)
            while [line["event"] for line in log].count("Triton started again") < times:
                await asyncio.sleep(0.05)
    assert await addresses.current() == before
    shutil.rmtree(folder / "models" / "one")
    os.kill(addresses._triton.pid, signal.SIGKILL)
    error = await asyncio.wait_for(given_up, 20)
    assert isinstance(error, EngineError)
    assert "started again 2 times in a row, in vain: it ended with -9" in str(error)
    await addresses.stop()
    assert not folder.exists()


async def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 64 * 2**20
    monkeypatch.setattr(shm.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert shm.shortage(free // 3, 1) == ""
    addresses = Bare(None, free)
    with capture_logs() as log:
        await addresses.start()
        await addresses.stop()
    [warning] = [line["event"] for line in log if "/dev/shm has" in line["event"]]
    assert "has 64 MiB free" in warning
    assert "can take 192 MiB of it for one model: give it 128 MiB more" in warning
    assert f"set max_message_bytes to {free // 3};" in warning


def test_the_repository_of_a_killed_server_is_cleared_by_the_next_start(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    with writer, writer.stdout:
        folder = Path(writer.stdout.readline().strip())
        [command] = alive(folder)
        clear_homes_of_the_dead()
        assert alive(folder) == [command], "its owner still lives"
        writer.kill()
    wait_until(lambda: gone(command), 10)
    clear_homes_of_the_dead()
    assert not folder.exists()
