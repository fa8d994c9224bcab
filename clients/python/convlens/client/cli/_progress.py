"""The bar that long work shows."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

# From so many pictures on, a bar shows how far it is.
MANY = 20


def progress(what: str, total: int = MANY) -> Progress:
    """A bar on stderr where that is a terminal, and there is something to wait for.

    `total` is of pictures; left out, even one may take long.
    """
    console = Console(stderr=True)
    return Progress(
        what,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=total < MANY or not console.is_terminal,
        transient=True,
        # On one terminal the lines go above the bar; into a pipe they must go by themselves.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )
