"""What an exception of a user's network says, in one line, and whether it is one of memory."""

import sysconfig
import traceback
from pathlib import Path

import torch

# Code that is no user's own: ours, Python's, and what is installed.
OTHERS = (
    str(Path(__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    "<frozen",
)


def in_words(error: Exception) -> str:
    """ "ValueError: no such file (networks.py:12)": its type, its first line, and where."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(OTHERS)]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}{where}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or, which torch says in words only, on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
