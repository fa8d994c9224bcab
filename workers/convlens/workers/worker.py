"""The worker: one network on one device, and the jobs that it answers."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import CANARY, DESCRIBE
from convlens.internal.v1.canary_pb2 import CanaryRequest, CanaryResponse
from convlens.internal.v1.job_pb2 import Stages
from convlens.v1.network_pb2 import ListPretrainedRequest
from convlens.workers import teams
from convlens.workers.adversarial import AttackJob, AttackStreamJob, RobustnessJob
from convlens.workers.classification import classifier
from convlens.workers.config import PoolConfig
from convlens.workers.explain import ExplainJob, ExplainStreamJob, Subject
from convlens.workers.features import extractor
from convlens.workers.incremental import ROOM
from convlens.workers.jobs import Ticket, alone, fail
from convlens.workers.network import ServedNetwork
from convlens.workers.passes import ROWS
from convlens.workers.runner import AnalysisJob, Key, Outputs, Pass, Runner, Steps
from convlens.workers.synthesis import SynthesizeJob

# Of a GPU's memory, what the analysis pool may take at a time; and on a CPU.
GPU_SHARE, CPU_BYTES = 0.4, 4 * 2**30
Jobs: TypeAlias = type[ExplainJob] | type[AttackJob] | type[RobustnessJob] | type[SynthesizeJob]
JOBS: Mapping[str, Jobs] = {
    "ExplanationService/Explain": ExplainJob,
    "ExplanationService/ExplainStream": ExplainStreamJob,
    "AdversarialService/Attack": AttackJob,
    "AdversarialService/AttackStream": AttackStreamJob,
    "AdversarialService/EvaluateRobustness": RobustnessJob,
    "SynthesisService/Synthesize": SynthesizeJob,
}


class InferenceWorker:
    """Answers the jobs of an inference pool, many in one pass. One thread gives it its jobs.

    All but lists are answered when `run` returns.
    """

    def __init__(self, network: ServedNetwork) -> None:
        self._network = network
        self._network.warm_up(ROWS)
        self._executor = teams.executor("decode")
        # One after the other, so that the last one is done last.
        self._lists = ThreadPoolExecutor(1, thread_name_prefix="lists")
        self._listing: Future[None] | None = None
        self._methods: dict[str, Callable[[Sequence[Ticket]], None]] = {
            "ClassificationService/Classify": classifier(network, self._executor).run,
            "FeatureService/ExtractFeatures": extractor(network, self._executor).run,
            "NetworkService/ListPretrained": self._list_pretrained,
            DESCRIBE: self._describe,
            CANARY: self._canary,
        }

    @property
    def methods(self) -> frozenset[str]:
        """The methods of the jobs that it answers."""
        return frozenset(self._methods)

    def run(self, tickets: Sequence[Ticket]) -> None:
        """Answers each ticket, whatever happens."""
        for method in dict.fromkeys(ticket.job.method for ticket in tickets):
            batch = [ticket for ticket in tickets if ticket.job.method == method]
            run = self._methods.get(method)
            if run is None:
                _refuse(batch)
                continue
            try:
                run(batch)
            except Exception as error:
                fail(batch, error)

    def _describe(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            ticket.answer(self._network.facts.SerializeToString(), Stages())

    def _list_pretrained(self, tickets: Sequence[Ticket]) -> None:
        # torchvision takes seconds to import, which only who asks for the list shall wait for.
        self._listing = self._lists.submit(self._list, tickets)

    def _list(self, tickets: Sequence[Ticket]) -> None:
        from convlens.workers.builders.pretrained import list_pretrained

        for ticket in tickets:
            with alone(ticket):
                request = ListPretrainedRequest.FromString(ticket.job.request)
                answer = list_pretrained(request.name_contains)
                ticket.answer(answer.SerializeToString(), Stages())

    def _canary(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            with alone(ticket):
                passes = CanaryRequest.FromString(ticket.job.request).passes
                for _ in range(passes):
                    self._network.logits(self._network.blank())
                ticket.answer(CanaryResponse(passes=passes).SerializeToString(), Stages())

    def is_idle(self) -> bool:
        """Whether nothing is under way but what `run` is given."""
        return self._listing is None or self._listing.done()

    def close(self) -> None:
        """Ends its threads."""
        self._lists.shutdown()
        self._executor.shutdown()


class AnalysisWorker:
    """Answers the jobs of an analysis pool, each when it is done. Threads may share it."""

    def __init__(self, network: ServedNetwork, pool: PoolConfig) -> None:
        self._network = network
        self._network.warm_up_gradients()
        # Empty rows of a micro-batch cost a GPU little, and a CPU as much as any others.
        share = network.device.type != "cpu"
        self._executor = teams.executor("analysis")
        memory = pool.memory_bytes or _memory(network.device)
        # What sweeps may keep of their pictures; the rest is a micro-batch's.
        kept = min(memory // 4, ROOM)
        rows = network.facts.rows
        self._runner = Runner(network, pool.budget, rows, share, self._executor, memory - kept)
        self._subject = Subject(network, kept)
        self._budget = pool.budget

    def run(self, tickets: Sequence[Ticket]) -> None:
        """Takes jobs and returns; blocks only while too much is under way."""
        for ticket in tickets:
            with alone(ticket):
                self._take(ticket)
        self._runner.wait_for_room()

    def _take(self, ticket: Ticket) -> None:
        if ticket.job.method == CANARY:
            self._runner.submit(CanaryJob(ticket, self._network))
            return
        kind = JOBS.get(ticket.job.method)
        if kind is None:
            _refuse([ticket])
            return
        job = kind(ticket, self._subject, self._executor, self._budget)
        if job.is_estimate:
            ticket.answer(job.estimated(), Stages())
        else:
            self._runner.submit(job)

    def is_idle(self) -> bool:
        """Whether every job that was taken is answered."""
        return self._runner.is_idle()

    def close(self) -> None:
        """Ends after the jobs that were taken."""
        self._runner.close()
        self._executor.shutdown()


class CanaryJob(AnalysisJob[None]):
    """Computes gradients of a blank picture, one after the other, and answers that it did."""

    def __init__(self, ticket: Ticket, network: ServedNetwork) -> None:
        self._passes = CanaryRequest.FromString(ticket.job.request).passes
        self._network = network
        super().__init__(ticket, cost=self._passes)

    def begin(self) -> dict[Key, Steps[None]]:
        """One method, which takes a pass at a time."""
        return {(0,): self._steps()}

    def _steps(self) -> Steps[None]:
        for _ in range(self._passes):
            yield Pass(self._network.blank(), None if self._network.opaque else best_score)

    def accept(self, key: Key, outcome: Failure | None) -> None:
        """Fails where a pass failed."""
        if outcome is not None:
            self.ticket.fail(outcome)

    def response(self) -> bytes:
        """The number of passes."""
        return CanaryResponse(passes=self._passes).SerializeToString()


def best_score(outputs: Outputs) -> Tensor:
    """Each row's own best score."""
    return outputs.scores.amax(dim=1)


def _memory(device: torch.device) -> int:
    """What the pool may take: the same for every device of a kind, so that the answers are."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return int(GPU_SHARE * total)
    return CPU_BYTES


def _refuse(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        rpc = ticket.job.method
        ticket.fail(Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc=rpc))
