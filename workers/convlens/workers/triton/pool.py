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
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.workers.catalog import load_network
from convlens.workers.clock import Clocks
from convlens.workers.config import NetworkEntry, PoolConfig
from convlens.workers.jobs import Ticket
from convlens.workers.triton.generation import Generation
from convlens.workers.worker import AnalysisWorker, InferenceWorker

# Without an import statement, since nobody but the stub can follow one.
pb_utils: Any = importlib.import_module("triton_python_backend_utils")


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
        self._clocks = Clocks()
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._worker = (
            AnalysisWorker(network, pool.budget) if self._decoupled else InferenceWorker(network)
        )
        self._busy = False
        number = int(parameters["generation"])
        self._generation = Generation(args["model_name"], number, self._is_idle)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answers a batch of jobs: a unary pool all at once, a decoupled one each when done."""
        if self._decoupled:
            self._run([self._streamed(request) for request in requests])
            return None
        replies: list[Any] = [None] * len(requests)
        self._run([self._unary(request, replies, i) for i, request in enumerate(requests)])
        return replies

    def finalize(self) -> None:
        """Ends after the jobs that were taken."""
        self._worker.close()

    def _is_idle(self) -> bool:
        return not self._busy and self._worker.is_idle()

    def _run(self, tickets: list[Ticket | None]) -> None:
        self._busy = True
        try:
            self._worker.run([ticket for ticket in tickets if ticket])
        finally:
            self._busy = False

    def _unary(self, request: Any, replies: list[Any], index: int) -> Ticket | None:
        return self._ticket(request, request.is_cancelled, partial(self._keep, replies, index))

    def _streamed(self, request: Any) -> Ticket | None:
        sender = request.get_response_sender()
        return self._ticket(request, sender.is_cancelled, partial(self._send, sender))

    def _ticket(self, request: Any, cancelled: Any, reply: Any) -> Ticket | None:
        """The request's job; what is none is answered at once."""
        try:
            job = Job.FromString(_bytes(request))
        except DecodeError:
            failure = Failure(ErrorReason.ERROR_REASON_MALFORMED_MESSAGE, message="Job")
            reply(Reply(error=failure.status()))
            return None
        return Ticket(job, *self._clocks.times(job), cancelled, reply)

    def _keep(self, replies: list[Any], index: int, reply: Reply) -> None:
        replies[index] = self._response(reply)

    def _send(self, sender: Any, reply: Reply) -> None:
        sender.send(self._response(reply), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _response(self, reply: Reply) -> Any:
        data = torch.frombuffer(bytearray(reply.SerializeToString()), dtype=torch.uint8)
        # numpy 2 would lose the bytes on their way through pb_utils.Tensor's constructor.
        tensor: Any = pb_utils.Tensor.from_dlpack("response", data.unsqueeze(0))
        return pb_utils.InferenceResponse([tensor])


def _bytes(request: Any) -> bytes:
    tensor: Any = pb_utils.get_input_tensor_by_name(request, "request")
    return torch.from_dlpack(tensor.to_dlpack()).numpy().tobytes()
