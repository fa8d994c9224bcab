"""Temporary directories, cleared with what runs there even where their owner was killed."""

import fcntl
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from convlens.server.triton import proc, shm
from convlens.server.triton.bundle import STUB, Bundle, libpython_name

PREFIX = "convlens-triton-"
LOCK = "lock"
# Marks Triton, its stubs and what these may start, so that each can be found again.
MARK = "CONVLENS_TRITON_HOME"
KILL_SECONDS = 5.0


class Folder:
    """A directory that is locked as long as its owner lives, and the processes of its own."""

    def __init__(self) -> None:
        # Locked before it gets its name: without a lock it would look like a dead owner's.
        fresh = Path(tempfile.mkdtemp(prefix="convlens-"))
        self._lock: BinaryIO = (fresh / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = fresh.rename(fresh.with_name(fresh.name.replace("convlens-", PREFIX)))
        _own.add(self)

    def environment(self) -> dict[str, str]:
        """Our own environment, with the mark of what belongs to this directory."""
        return {**os.environ, MARK: str(self.path)}

    def clear(self) -> None:
        """Kills what still runs from here, and removes its shared memory and the directory."""
        _clear(self.path)
        self._lock.close()
        _own.discard(self)


# Those of this process that are not cleared yet.
_own: set[Folder] = set()


class Home(Folder):
    """The directory of one launch of Triton: links into the bundle."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self._bundle = bundle
        self.backends = self.path / "backends"
        self._link()

    def _link(self) -> None:
        python = self.backends / "python"
        python.mkdir(parents=True)
        for file in self._bundle.backend.iterdir():
            (python / file.name).symlink_to(file)
        (python / STUB).symlink_to(self._bundle.stub)
        libraries = self.path / "lib"
        libraries.mkdir()
        if self._bundle.libpython:
            # One link, since its folder may hold other libraries that Triton shall not meet.
            (libraries / libpython_name()).symlink_to(self._bundle.libpython)

    def environment(self) -> dict[str, str]:
        """Our own environment, and what Triton and the models need besides."""
        libraries = [str(self.path / "lib"), str(self._bundle.libraries)]
        return {
            **super().environment(),
            # Models run in an isolated Python, which ignores PYTHONPATH: they add this themselves.
            "CONVLENS_SITE": sysconfig.get_path("purelib"),
            # That Python looks for its standard library beside the first `python3` on the path.
            "PATH": _before(os.environ.get("PATH"), str(Path(sys.executable).parent)),
            "LD_LIBRARY_PATH": _before(os.environ.get("LD_LIBRARY_PATH"), *libraries),
        }


def clear_own() -> None:
    """Clears the directories of this process, which is about to end in a hurry."""
    for folder in list(_own):
        folder.clear()


def clear_homes_of_the_dead() -> None:
    """Clears what servers left behind that were killed: directories whose lock is free."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            with (path / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(path)
        except OSError:
            # In use, of another user, or already gone.
            continue


def _clear(path: Path) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while (pids := proc.with_variable(MARK, str(path))) and time.monotonic() < deadline:
        regions = shm.regions_of(pids)
        for pid in pids:
            _kill(pid)
        shm.remove(regions)
        time.sleep(0.02)
    shutil.rmtree(path, ignore_errors=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _before(paths: str | None, *first: str) -> str:
    return os.pathsep.join([*first, *([paths] if paths else [])])
