"""A pool of a network inside Triton's Python backend: job bytes in, reply bytes out.

Only importable in Triton's stub, which brings `triton_python_backend_utils`.
"""

import importlib
import json
import os
from functools import partial
from typing import Any

import torch
from google.protobuf.message import DecodeError

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import network_of
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.workers import teams
from convlens.workers.catalog import load_network
from convlens.workers.clock import Clocks
from convlens.workers.config import NetworkEntry, PoolConfig
from convlens.workers.intake import Intake
from convlens.workers.jobs import Ticket
from convlens.workers.triton.generation import Generation
from convlens.workers.triton.vitals import Told
from convlens.workers.worker import AnalysisWorker, InferenceWorker

# Without an import statement, since nobody but the stub can follow one.
pb_utils: Any = importlib.import_module("triton_python_backend_utils")

# For the jobs that were taken, once Triton ends the worker.
CLOSE_SECONDS = 5.0


class PoolModel:
    """One instance of one pool."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the network on the instance's device and warms it up: then Triton says ready."""
        config = json.loads(args["model_config"])
        parameters = {key: item["string_value"] for key, item in config["parameters"].items()}
        pool = PoolConfig.model_validate_json(parameters["pool"])
        entry = NetworkEntry.model_validate_json(parameters["network"])
        os.nice(pool.niceness)
        if pool.threads:
            torch.set_num_threads(pool.threads)
        on_gpu = args["model_instance_kind"] == "GPU"
        network = load_network(
            entry, f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
        )
        name = args["model_name"]
        known = network_of(name)
        worker = (
            InferenceWorker(network)
            if known and known[2] == "inference"
            else AnalysisWorker(network, pool)
        )
        self._clocks = Clocks()
        self._intake = Intake(name, pool, worker)
        self._told = Told(self._intake, self._clocks)
        self._generation = Generation(name, args["model_config"], self._intake.is_idle)
        # This thread only takes jobs from now on.
        teams.let_go()

    def execute(self, requests: list[Any]) -> None:
        """Takes jobs and returns at once; each is answered when it is done."""
        for request in requests:
            sender = request.get_response_sender()
            if ticket := self._ticket(request, sender):
                self._intake.submit(ticket)

    def finalize(self) -> None:
        """Ends after the jobs that were taken."""
        self._intake.close(CLOSE_SECONDS)

    def _ticket(self, request: Any, sender: Any) -> Ticket | None:
        """The request's job; what is none is answered at once."""
        try:
            job = Job.FromString(_bytes(request))
        except DecodeError:
            failure = Failure(ErrorReason.ERROR_REASON_MALFORMED_MESSAGE, message="Job")
            self._send(sender, "", Reply(error=failure.status()))
            return None
        reply = partial(self._send, sender, job.clock)
        return Ticket(job, *self._clocks.times(job), sender.is_cancelled, reply)

    def _send(self, sender: Any, clock: str, reply: Reply) -> None:
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if clock and not reply.more and (vitals := self._told.news(clock)):
            reply.vitals.CopyFrom(vitals)
        try:
            sender.send(self._response(reply), flags=0 if reply.more else final)
        except Exception as error:
            # Without a last response Triton would hold the request for alive, and never unload.
            broken = pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))
            sender.send(broken, flags=final)
            raise

    def _response(self, reply: Reply) -> Any:
        data = torch.frombuffer(bytearray(reply.SerializeToString()), dtype=torch.uint8)
        # numpy 2 would lose the bytes on their way through pb_utils.Tensor's constructor.
        tensor: Any = pb_utils.Tensor.from_dlpack("response", data)
        return pb_utils.InferenceResponse([tensor])


def _bytes(request: Any) -> bytes:
    tensor: Any = pb_utils.get_input_tensor_by_name(request, "request")
    return torch.from_dlpack(tensor.to_dlpack()).numpy().tobytes()
