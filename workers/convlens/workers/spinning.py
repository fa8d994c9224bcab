"""How long threads that compute wait awake for each other; to be said before torch is loaded."""

import os

# Turns of libgomp's, 30 to 150 microseconds by the processor.
_TURNS = "3000"


def spin_briefly() -> None:
    """Threads of a process must not spin for long on the cores of another.

    In so many turns a team that has its cores is mostly done (docs/decisions/0028). Where the
    environment says what to do, that counts.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
