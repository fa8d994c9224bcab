"""What the command writes on standard output."""

import os
import sys


def written(text: str) -> bool:
    """Writes a text; where that fails, as on a full disk, says why and returns False."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        print(f"convlens-server: cannot write the output: {error.strerror}", file=sys.stderr)
        # Python would try the rest again at its end, and tell of it in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
