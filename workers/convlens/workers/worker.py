"""The worker: one network on one device, and the jobs that it answers."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from convlens.contract import ErrorReason, Failure
from convlens.v1 import network_pb2
from convlens.workers.catalog import BUNDLED
from convlens.workers.classification import Classifier
from convlens.workers.images import Limits
from convlens.workers.jobs import Ticket

log = logging.getLogger(__name__)

# A forward pass of so many images is as fast per image as any larger one, and its memory is small.
ROWS = 32


class Worker:
    """One network on one device. Not thread-safe: one thread gives it its jobs."""

    def __init__(self, network: str, device: str = "auto", decode_threads: int = 2) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = BUNDLED[network](torch.device(device))
        self._network.warm_up(ROWS)
        self._executor = ThreadPoolExecutor(decode_threads, thread_name_prefix=f"{network}-decode")
        self._classifier = Classifier(self._network, self._executor, Limits(), ROWS)

    def describe(self) -> network_pb2.Network:
        """The network, as GetNetwork tells it."""
        return self._network.facts

    def infer(self, tickets: Iterable[Ticket]) -> None:
        """Answers jobs of the inference pool; each ticket is answered whatever happens."""
        tickets = list(tickets)
        try:
            self._classifier.run(tickets)
        except Exception:
            ids = [ticket.job.request_id for ticket in tickets if not ticket.answered]
            log.exception("worker failed", extra={"request_ids": ids})
            for ticket in tickets:
                ticket.fail(
                    Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=ticket.job.request_id)
                )

    def close(self) -> None:
        """Ends the decoding threads."""
        self._executor.shutdown()


def bundled_networks() -> list[str]:
    """The networks that are served where no configuration names others."""
    return list(BUNDLED)
