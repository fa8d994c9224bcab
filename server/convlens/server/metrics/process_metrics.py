"""What the parent of several server processes counts."""

from convlens.server.metrics.gauge import Reading
from convlens.server.metrics.registry import Registry


class ProcessMetrics:
    """How the processes of one server fare; `alive` says how many run."""

    def __init__(self, registry: Registry, alive: Reading) -> None:
        registry.where = "triton, with processes above 1"
        registry.gauge(
            "convlens_processes", "Processes of the server that run.", "processes"
        ).watch(alive)
        self.restarts = registry.count(
            "convlens_process_restarts",
            "Processes of the server that ended by themselves, and were started again.",
            "restarts",
        )
