"""From the start of a server to its first answer, and how long it takes to stop."""

import time
from pathlib import Path
from typing import Any

import grpc

from benchmarks.common import Side, jpeg_of_60_kb, server, show, turns
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.classification_pb2_grpc import ClassificationServiceStub
from convlens.v1.image_pb2 import Image

ROUNDS = 3
ENGINES = ("embedded", "triton-local")


def once(engine: str, request: ClassifyRequest) -> tuple[float, float]:
    """Seconds to the first answer, and to the end of the process after SIGTERM."""
    began = time.monotonic()
    with server(engine, "networks: [{name: shapes}]\n") as address:
        with grpc.insecure_channel(address.server) as channel:
            stub: Any = ClassificationServiceStub(channel)
            stub.Classify(request, wait_for_ready=True)
        answered = time.monotonic()
    return answered - began, time.monotonic() - answered


def run(json_file: Path | None) -> None:
    """Alternates the engines, with the bundled network."""
    request = ClassifyRequest(images=[Image(encoded=jpeg_of_60_kb())])
    starts = {engine: Side(f"{engine}: first answer", []) for engine in ENGINES}
    stops = {engine: Side(f"{engine}: stopped", []) for engine in ENGINES}
    for _ in turns(ROUNDS, "start and stop"):
        for engine in ENGINES:
            start, stop = once(engine, request)
            starts[engine].values.append(start)
            stops[engine].values.append(stop)
    both = [*starts.values(), *stops.values()]
    show("Start and stop of a server with the bundled network", "s", both, "", json_file)
