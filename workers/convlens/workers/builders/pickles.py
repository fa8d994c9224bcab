"""What a file that was refused would have run: its pickle is read as text and never unpickled."""

import pickletools
import re
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

# What torch.save writes about tensors; all else is somebody's code.
OF_WEIGHTS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|torch\.(_utils|_tensor)\.\w+|torch\.Size|"
    r"torch\.(storage\.)?\w+Storage|torch\.nn\.parameter\.Parameter"
)
# A second of reading; objects stand at the beginning.
MAX_STEPS = 200_000
# torch.save once wrote so many into a file, and the tensors' bytes after them.
MAX_PICKLES = 5


def is_script(file: Path) -> bool:
    """Whether it is a program of TorchScript, which torch.jit.save writes."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def foreign_names(file: Path) -> list[str] | None:
    """The functions and classes that a file's pickle calls for, but for those of weights.

    None where there are none because the file is torch.save's, or no pickle at all.
    """
    found: dict[str, None] = {}
    ended = 0
    # Whatever damage leads the readers to; what was found before it counts.
    with suppress(Exception), _pickle(file) as opened:
        ended = _collect(opened, found)
    names = [name for name in found if not OF_WEIGHTS.fullmatch(name)]
    plain = ended == 1 and not zipfile.is_zipfile(file)
    return names if names or plain else None


@contextmanager
def _pickle(file: Path) -> Generator[IO[bytes]]:
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            yield opened
        return
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as opened:
            yield opened


def _collect(opened: IO[bytes], found: dict[str, None]) -> int:
    """Puts the names into `found`; how many pickles came to their end."""
    ended = 0
    with suppress(Exception):
        for _ in range(MAX_PICKLES):
            _collect_one(opened, found)
            ended += 1
    return ended


def _collect_one(opened: IO[bytes], found: dict[str, None]) -> None:
    # What was pushed last, None where it is no text; a name of two parts is the last two.
    pushed: list[str | None] = []
    memo: dict[int, str | None] = {}
    steps: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(opened)
    for step, argument, _ in islice(steps, MAX_STEPS):
        last = pushed[-1] if pushed else None
        match step.name:
            case "GLOBAL" | "INST":
                found[str(argument).replace(" ", ".")] = None
                pushed.append(None)
            case "STACK_GLOBAL":
                found[".".join(part or "?" for part in pushed[-2:])] = None
                pushed.append(None)
            case "MEMOIZE":
                memo[len(memo)] = last
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[int(argument)] = last
            case "GET" | "BINGET" | "LONG_BINGET":
                pushed.append(memo.get(int(argument)))
            case _ if step.stack_after:
                pushed.append(argument if isinstance(argument, str) else None)
            case _:
                pass
