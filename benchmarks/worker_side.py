"""A worker without a server: a network, real jobs of Explain and Attack, and the runner.

Needs torch, torchvision, numpy and what `convlens.workers` imports; benchmarks/device.py says what
that is, and how to take it to a machine that has none of it. No other package of the benchmarks.
"""

import queue
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from google.protobuf.message import Message

from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1 import adversarial_pb2, explanation_pb2, image_pb2, tensor_pb2
from convlens.v1.attack_methods_pb2 import AttackMethod
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.target_pb2 import Target
from convlens.workers import teams
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry, PoolConfig
from convlens.workers.explain import Subject
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import Runner
from convlens.workers.worker import CPU_BYTES, GPU_SHARE, JOBS

Request: TypeAlias = explanation_pb2.ExplainRequest | adversarial_pb2.AttackRequest
METHODS: Mapping[type[Message], str] = {
    explanation_pb2.ExplainRequest: "ExplanationService/Explain",
    adversarial_pb2.AttackRequest: "AdversarialService/Attack",
}
SECONDS = 3600.0
# The class that is explained: then nothing hangs on what a network without weights predicts.
CLASS = 3


@dataclass(frozen=True)
class Work:
    """What jobs took: seconds from the first to the last answer, and what was computed."""

    seconds: float
    # Through the network, and parts of the methods' passes that were computed in them.
    micro_batches: float
    parts: int
    # Points: forward, and back.
    forward_passes: int
    backward_passes: int


def served(builder: str, device: str, **fields: Any) -> ServedNetwork:
    """A network ready to compute, such as "torchvision:resnet18", with random weights.

    Of "bundled:NAME" the weights are the bundled ones.
    """
    source, name = builder.split(":")
    weights = {} if source == "bundled" else {"weights": "random"}
    torch.manual_seed(0)
    network = load_network(NetworkEntry(name=name, builder=builder, **weights, **fields), device)
    network.warm_up_gradients()
    return network


def picture(network: ServedNetwork, seed: int) -> image_pb2.Image:
    """A picture of the size of the network's input: a smooth one, as photographs are."""
    size = network.facts.input
    coarse = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 7, 7)))
    shape = (size.height, size.width)
    fine = torch.nn.functional.interpolate(coarse, shape, mode="bicubic").clamp(0, 1)
    pixels = (fine[0].permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous()
    tensor = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_UINT8, shape=pixels.shape, data=pixels.numpy().tobytes()
    )
    return image_pb2.Image(tensor=tensor, geometry=image_pb2.GEOMETRY_AS_IS)


def request(images: Sequence[image_pb2.Image], method: Any) -> Request:
    """What a caller would send for this method of Explain, or this attack; every step is run."""
    for kind in (ExplanationMethod, AttackMethod):
        for field in kind.DESCRIPTOR.fields:
            if field.message_type == method.DESCRIPTOR:
                return _request(images, kind(**{field.name: method}))
    raise ValueError(f"{method.DESCRIPTOR.full_name} is no method of Explain or Attack")


def _request(
    images: Sequence[image_pb2.Image], method: ExplanationMethod | AttackMethod
) -> Request:
    if isinstance(method, AttackMethod):
        return adversarial_pb2.AttackRequest(images=images, method=method, stop_at_success=False)
    targets = [Target(class_index=CLASS)]
    return explanation_pb2.ExplainRequest(images=images, methods=[method], targets=targets)


class Worker:
    """A runner, and the jobs that are given to it. One thread may use it."""

    def __init__(self, network: ServedNetwork, share: bool, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._subject = Subject(network)
        self._budget = PoolConfig().budget
        rows, memory = network.facts.rows, _memory(network.device)
        self._runner = Runner(network, self._budget, rows, share, executor, memory)

    def close(self) -> None:
        """Ends the runner's thread."""
        self._runner.close()

    def at_once(self, requests: Sequence[Request]) -> Work:
        """All jobs submitted before the first one is waited for."""
        started, replies = time.perf_counter(), queue.Queue[tuple[Request, Reply]]()
        jobs = [self._submit(each, replies) for each in requests]
        answers = [replies.get() for _ in jobs]
        return _work(time.perf_counter() - started, jobs, answers)

    def in_turn(self, requests: Sequence[Request]) -> Work:
        """Each job submitted once the one before is answered."""
        started, replies = time.perf_counter(), queue.Queue[tuple[Request, Reply]]()
        jobs, answers = list[Any](), list[tuple[Request, Reply]]()
        for each in requests:
            jobs.append(self._submit(each, replies))
            answers.append(replies.get())
        return _work(time.perf_counter() - started, jobs, answers)

    def _submit(self, asked: Request, replies: "queue.Queue[tuple[Request, Reply]]") -> Any:
        method, now = METHODS[type(asked)], time.monotonic()
        job = Job(
            request_id="benchmark",
            method=method,
            request=asked.SerializeToString(),
            max_response_bytes=2**31 - 1,
        )

        def reply(answer: Reply) -> None:
            replies.put((asked, answer))

        ticket = Ticket(job, now, now + SECONDS, lambda: False, reply)
        made = JOBS[method](ticket, self._subject, self._executor, self._budget)
        self._runner.submit(made)
        return made


@contextmanager
def working(network: ServedNetwork, *, share: bool) -> Generator[Worker]:
    """A runner for the network, with threads of its own that read pictures and write answers."""
    with teams.executor("analysis") as executor:
        worker = Worker(network, share, executor)
        yield worker
        worker.close()


def _memory(device: torch.device) -> int:
    """What the analysis pool takes by default."""
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[1])
    return CPU_BYTES


def _work(seconds: float, jobs: Sequence[Any], answers: Sequence[tuple[Request, Reply]]) -> Work:
    for asked, reply in answers:
        _check(asked, reply)
    stages, spent = [job.stages for job in jobs], [job.spent for job in jobs]
    return Work(
        seconds,
        sum(each.micro_batches for each in stages),
        sum(each.passes for each in stages),
        sum(each.forward_passes for each in spent),
        sum(each.backward_passes for each in spent),
    )


def _check(asked: Request, reply: Reply) -> None:
    """Raises RuntimeError where any part of an answer is an error: what fails is soon done."""
    errors = [reply.error] if reply.HasField("error") else []
    if isinstance(asked, explanation_pb2.ExplainRequest):
        explained = explanation_pb2.ExplainResponse.FromString(reply.response).results
        errors += [each.error for each in explained if each.HasField("error")]
        parts = [part for each in explained for part in each.explanation.attributions]
        errors += [part.error for part in parts if part.HasField("error")]
    else:
        attacked = adversarial_pb2.AttackResponse.FromString(reply.response).results
        errors += [each.error for each in attacked if each.HasField("error")]
    if errors:
        raise RuntimeError(errors[0].message)
