"""A server that says its name to whoever asks for a class: `python -m tests.deploy.named_server`.

All of it is the real one but for the engine. Arguments: the address to listen on, and the name.
"""

import asyncio
import logging
import signal
import sys
from typing import Any

import structlog

from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from convlens.v1.classification_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    ClassifyResult,
)
from convlens.v1.network_pb2 import Network
from convlens.v1.target_pb2 import ClassScore
from tests.server.quiet_engine import Quiet


class Named(Quiet):
    """Holds every picture to be of the class of its own name, after some work."""

    def __init__(self, name: str) -> None:
        self._answer = Classification(classes=[ClassScore(label=name, probability=1, logit=1)])

    async def call(self, network: Network, job: Job) -> Reply:
        images = ClassifyRequest.FromString(job.request).images
        # As long as a small network takes: a server that is killed has calls under way.
        await asyncio.sleep(0.05)
        results = [ClassifyResult(classification=self._answer) for _ in images]
        return Reply(response=ClassifyResponse(results=results).SerializeToString())


async def main(address: str, name: str) -> None:
    """Serves until SIGTERM."""
    # Nobody reads it, and a pipe that is full would stop the server.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    given: dict[str, Any] = {"listen": address, "metrics_listen": "off", "drain_timeout": 5}
    async with Gateway(Settings(**given), Named(name), Metrics()):
        print("serving", flush=True)
        await over.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
